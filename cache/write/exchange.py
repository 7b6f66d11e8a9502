"""The exchange of two names in one step, where the system can."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

#: Linux: the working directory, and RENAME_EXCHANGE. macOS: RENAME_SWAP.
_HERE, _EXCHANGE, _SWAP = -100, 2, 2


def exchange(one: Path, other: Path) -> bool:
    """Give two files or folders of one disk each other's name; False where that cannot be done."""
    first, second = os.fsencode(one), os.fsencode(other)
    try:
        system = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return bool(system.renamex_np(first, second, _SWAP) == 0)
        return bool(system.renameat2(_HERE, first, _HERE, second, _EXCHANGE) == 0)
    except (OSError, AttributeError):
        return False
