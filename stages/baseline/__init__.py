"""CNNs trained from scratch on the responses."""
