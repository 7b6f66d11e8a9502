"""Frozen Vision Transformers."""
