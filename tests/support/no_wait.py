"""Importing this makes nothing wait for the disk: what a killed process has written stays."""

import os

os.fsync = lambda handle: None  # type: ignore[assignment]
