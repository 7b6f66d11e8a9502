"""Copies of caches: pulled from elsewhere, or packed into one file."""
