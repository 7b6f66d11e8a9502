"""The readout and its solvers."""
