"""Attacks on results, caches, checkpoints and inputs: a file for each, which counts what it saw."""
