"""The command `check`: what was understood of an experiment's data, and every doubt."""
