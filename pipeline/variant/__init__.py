"""One variant of an experiment: its inputs and its cache."""
