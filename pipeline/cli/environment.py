"""The process that a command runs in: what libraries need and containers or notebooks lack."""

from __future__ import annotations

import atexit
import getpass
import os
import shutil
import tempfile
from collections.abc import MutableMapping
from pathlib import Path


def complete(environ: MutableMapping[str, str]) -> None:
    """Give this process a home folder, a user's name and a way to draw, where it has none.

    Containers often run under a number that no user has, with a home that cannot be written to or
    with none. Notebooks name a backend of matplotlib that is of their own environment.
    """
    # Figures are written to files, whatever a notebook's cells do with theirs.
    environ["MPLBACKEND"] = "agg"
    try:
        getpass.getuser()
    except (KeyError, OSError):
        environ["LOGNAME"] = f"uid{os.getuid()}"
    try:
        home = Path.home()
    except RuntimeError:
        # Settings and weights that are kept there are none; all libraries find a folder.
        environ["HOME"] = _temporary()
        return
    if "MPLCONFIGDIR" not in environ and not os.access(_existing(home / ".config"), os.W_OK):
        # Settings and weights in it may still be read.
        environ["MPLCONFIGDIR"] = _temporary()


def _existing(folder: Path) -> Path:
    """The nearest folder above that is there."""
    return next(each for each in (folder, *folder.parents) if each.is_dir())


def _temporary() -> str:
    """A folder that is gone when this process ends."""
    made = tempfile.mkdtemp(prefix="vitv1-home-")
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made
