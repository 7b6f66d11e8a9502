"""Copies of a cache: pulled from elsewhere, or packed into one file."""
