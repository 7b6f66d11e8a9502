"""Saving a recording as arrays: an `.npz` file or a zarr group."""

from __future__ import annotations

import re
import shutil
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError, naming, place_folder, replaced
from stages.recordings.array_settings import ArrayNames

if TYPE_CHECKING:
    from stages.recordings.recording import Recording

#: Names that a member of a file may have: one step, and no hidden one.
_NAME = re.compile(r"[^./\\\x00-\x1f][^/\\\x00-\x1f]{0,99}")


def save_recording(recording: Recording, path: Path) -> None:
    """Write a recording, see `Recording.save`."""
    ending = path.suffix.lower()
    if ending not in (".npz", ".zarr"):
        raise UserError(f"{path}: a recording is saved as .npz or .zarr, name one of these")
    if path.exists():
        raise UserError(f"{path} is there already: remove it, or save under another name")
    arrays = _arrays(recording)
    path.parent.mkdir(parents=True, exist_ok=True)
    if ending == ".npz":
        with replaced(path, durable=True) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
        return
    new = path.with_name(f".{path.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        with naming(path):
            _write_zarr(new, arrays)
            place_folder(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write_zarr(folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    import zarr

    group = zarr.create_group(str(folder), zarr_format=3)
    for name, values in arrays.items():
        with warnings.catch_warnings():
            # The format of texts is called unstable; what is written here is read here.
            warnings.simplefilter("ignore")
            if values.dtype.kind == "U":
                text = group.create_array(name, shape=values.shape, dtype=str)
                text[...] = values.astype(object)
            else:
                group.create_array(name, data=np.ascontiguousarray(values))


def _arrays(recording: Recording) -> dict[str, NDArray[Any]]:
    """The arrays by the names of `ArrayNames`: single trials, then those of each test image."""
    there = ~np.isnan(recording.test_responses).all(axis=2)
    tiers = np.where(recording.validation, "validation", "train")
    names = sorted(set(recording.columns) & ArrayNames().all())
    names += [name for name in recording.columns if not _NAME.fullmatch(name)]
    if names:
        raise UserError(
            f"recording {recording.name}: a column is called {names[0]!r}, which no array beside "
            "the responses can be: rename it"
        )
    found = {
        "responses": np.concatenate([recording.responses, recording.test_responses[there]]),
        "image": np.concatenate(
            [recording.image_ids, np.repeat(recording.test_image_ids, there.sum(axis=1))]
        ),
        "tier": np.concatenate([tiers, np.full(int(there.sum()), "test")]),
        **recording.columns,
    }
    own = {"unit_id": recording.unit_ids, "x": recording.x, "y": recording.y}
    found |= {name: values for name, values in own.items() if values is not None}
    if recording.images is not None:
        found["images"] = recording.images.read(recording.images.ids)
        found["image_id"] = recording.images.ids
    return found
