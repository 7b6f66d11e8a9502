"""Importing this readies a process for others to be forked from it."""

import os

from support.small_extraction import Extraction

# What a killed process has written stays, so that none has to wait for the disk.
os.fsync = lambda handle: None  # type: ignore[assignment]
# Whatever the first backbone imports and keeps.
Extraction()
