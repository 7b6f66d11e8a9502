"""Attacks on results, a file for each; the tests run them in small numbers."""
