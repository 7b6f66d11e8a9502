"""Recordings of videos, told from their folders: all that is read here are still images."""

from __future__ import annotations

import zipfile
from pathlib import Path

#: Endings of films.
_FILMS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")

#: The folder of videos of Sensorium 2023, an array (row, column, frame) per trial.
_FOLDER = "data/videos"


def video_in(tree: Path | zipfile.Path) -> str | None:
    """The first film, or folder of videos, at the top of a folder or archive or one below.

    None where there is none.
    """
    for folder in ("", *(entry.name for entry in tree.iterdir() if entry.is_dir())):
        here = tree / folder
        films = (entry.name for entry in here.iterdir() if entry.name.lower().endswith(_FILMS))
        name = _FOLDER if (here / _FOLDER).is_dir() else next(films, None)
        if name is not None:
            return f"{folder}/{name}".lstrip("/")
    return None
