"""Tokens read from a cache."""
