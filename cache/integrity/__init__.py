"""Checks of a cache, byte by byte, and its repair."""
