"""Recordings and the formats they are published in."""
