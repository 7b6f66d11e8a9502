"""Recordings made of arrays: of which trials they consist, how these are split, and saving them."""
