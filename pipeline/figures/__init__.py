"""Figures, one function each, drawn from the result tables alone."""
