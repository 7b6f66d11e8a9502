"""Readouts for who has arrays only: a validation part drawn from them, scikit-learn's methods."""
