"""A recording in the Sensorium layout, in each place it may lie, for the tests that read one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from support.recording_files import as_zip

LAYOUTS: dict[str, Callable[[Path], Path]] = {
    "folder": lambda folder: folder,
    "folder above": lambda folder: folder.parent,
    "zip with a top folder": as_zip,
    "zip without one": lambda folder: as_zip(folder, top=False),
}
EXTRA = {"final_test": 2, "live_main": 1}


def trials(folder: Path) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    meta = folder / "meta" / "trials"
    return np.load(meta / "tiers.npy"), np.load(meta / "frame_image_id.npy")


def member(folder: Path, kind: str, trial: np.integer[Any]) -> NDArray[Any]:
    array: NDArray[Any] = np.load(folder / "data" / kind / f"{trial}.npy")
    return array


def change(folder: Path, name: str, array: NDArray[Any]) -> None:
    np.save(folder / name, array, allow_pickle=array.dtype == object)
