"""The training loop, its checkpoints, and gradient descent on one network."""
