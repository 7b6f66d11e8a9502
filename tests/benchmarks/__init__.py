"""Benchmarks: both sides of every comparison in one run, as ratios."""
