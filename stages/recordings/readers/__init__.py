"""Readers of recordings on disk: a file per format."""
