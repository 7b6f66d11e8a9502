"""Writers of small recordings in the layouts that are published, for tests."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.io
from numpy.typing import NDArray

from stages.recordings import FORMATS, Recording, RecordingSettings, read_recording
from stages.stimuli import Stimuli


class MinimodelFiles(NamedTuple):
    """Where `write_minimodel` put the images and the recording."""

    images: Path
    recording: Path


def write_minimodel(
    folder: Path,
    *,
    name: str = "FX10_nat60k_2023_05_16.npz",
    shape: tuple[int, int] = (66, 264),
    n_images: int = 34,
    n_trials: int = 30,
    n_neurons: int = 5,
    n_test: int = 4,
    n_repeats: int = 3,
    seed: int = 0,
    changes: Mapping[str, Any] | None = None,
) -> MinimodelFiles:
    """Images `nat60k_text16.mat` and one recording's `.npz`.

    The last n_test images are the repeated ones, the trials show the others in random order.

    Parameters
    ----------
    changes : mapping, optional
        Arrays of the recording by key, in place of those made up here; None leaves a key out.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    images = folder / "nat60k_text16.mat"
    stack = rng.integers(0, 256, (*shape, n_images), dtype=np.uint8)
    scipy.io.savemat(images, {"img": stack}, do_compression=True)
    arrays: dict[str, Any] = {
        "sp": rng.gamma(1.0, 2.0, (n_neurons, n_trials)).astype(np.float32),
        "istim_sp": rng.choice(n_images - n_test, n_trials, replace=n_trials > n_images - n_test),
        "istim_ss": np.arange(n_images - n_test, n_images),
        "ss_all": rng.gamma(1.0, 2.0, (n_test, n_repeats, n_neurons)).astype(np.float32),
        "xpos": rng.uniform(0, 1000, n_neurons),
        "ypos": rng.uniform(0, 1000, n_neurons),
        "iplane": rng.integers(0, 2, n_neurons),
    }
    arrays |= changes or {}
    recording = folder / name
    np.savez(recording, **{key: values for key, values in arrays.items() if values is not None})
    return MinimodelFiles(images, recording)


def ragged(parts: Sequence[NDArray[Any]]) -> NDArray[np.object_]:
    """One-dimensional object array of the given arrays, as the release keeps unequal repeats."""
    whole = np.empty(len(parts), dtype=object)
    for i, part in enumerate(parts):
        whole[i] = part
    return whole


def write_sensorium(
    folder: Path,
    *,
    shape: tuple[int, int] = (36, 64),
    n_train: int = 12,
    n_validation: int = 4,
    repeats: Sequence[int] = (3, 2, 3),
    extra_tiers: Mapping[str, int] | None = None,
    n_neurons: int = 5,
    optional: bool = True,
    seed: int = 0,
) -> Path:
    """Write `data/` and `meta/` into a folder and return it.

    Trials are in random order. Every train, validation and extra trial shows an image of its own;
    test image i is shown `repeats[i]` times. Image ids are multiples of 7.

    Parameters
    ----------
    extra_tiers : mapping, optional
        Number of trials of tiers beyond train, validation and test.
    optional : bool
        Write unit ids and positions, too.
    """
    rng = np.random.default_rng(seed)
    singles = {"train": n_train, "validation": n_validation, **(extra_tiers or {})}
    tiers = [tier for tier, n in singles.items() for _ in range(n)]
    image = list(range(len(tiers)))
    for position, n in enumerate(repeats):
        tiers += ["test"] * n
        image += [sum(singles.values()) + position] * n
    order = rng.permutation(len(tiers))
    ids = 7 * rng.permutation(max(image, default=-1) + 1)
    pixels = rng.integers(0, 256, (len(ids), 1, *shape)).astype(np.float32)
    for part in ("data/images", "data/responses", "meta/trials", "meta/neurons"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for trial, row in enumerate(order):
        np.save(folder / f"data/images/{trial}.npy", pixels[image[row]])
        np.save(folder / f"data/responses/{trial}.npy", rng.gamma(1.0, 2.0, n_neurons))
    np.save(folder / "meta/trials/tiers.npy", np.array(tiers)[order])
    np.save(folder / "meta/trials/frame_image_id.npy", ids[np.array(image)[order]])
    if optional:
        np.save(folder / "meta/neurons/unit_ids.npy", np.arange(1, n_neurons + 1, dtype=np.uint16))
        positions = rng.uniform(-400, 400, (n_neurons, 3))
        np.save(folder / "meta/neurons/cell_motor_coordinates.npy", positions)
    return folder


def as_zip(folder: Path, *, top: bool = True) -> Path:
    """Zip a folder beside itself, under its own name (`top`) or with its content at the root."""
    archive = folder.with_name(f"{folder.name}.zip")
    base = folder.parent if top else folder
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            packed.write(file, file.relative_to(base))
    return archive


def read_file(
    format: str, path: Path, *, name: str = "mouse", allow_pickle: bool = False, **settings: Any
) -> Recording:
    """The whole recording of a file or folder."""
    return read_recording(
        RecordingSettings(
            format=format, name=name, path=path, allow_pickle=allow_pickle, **settings
        )
    )


def images_of(format: str, path: Path, *, allow_pickle: bool = False) -> Stimuli:
    """The images of a file or folder."""
    return FORMATS[format].read_images(path, allow_pickle=allow_pickle)
