"""Files that unpack to more than the memory limit: refused before they are read."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io
from support.recording_files import (
    images_of,
    ragged,
    read_file,
    write_minimodel,
    write_sensorium,
)

from cache import UserError
from stages.recordings import FORMATS, RecordingSettings, SyntheticSettings, reading_limit

LIMIT = 2_000_000
SAID = r"would take .* of memory, and run\.memory_limit leaves 2\.0 MB: raise it"


def zeros(n_bytes: int, **header: Any) -> bytes:
    """A `.npy` file of zeros."""
    file = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (n_bytes,), **header}
    np.lib.format.write_array_header_2_0(file, header)
    return file.getvalue() + bytes(n_bytes)


def refused(read: Any, said: str = SAID) -> None:
    """Reading is refused, and takes no more memory than the limit on the way."""
    tracemalloc.start()
    try:
        with reading_limit(LIMIT), pytest.raises(UserError, match=said):
            read()
        assert tracemalloc.get_traced_memory()[1] < 3 * LIMIT
    finally:
        tracemalloc.stop()


BOMBS = {
    "bytes": (zeros(10 * LIMIT), SAID),
    "declared": (zeros(0, shape=(10 * LIMIT,)), SAID),
    "no width": (zeros(0, descr="|S0", shape=(10 * LIMIT,)), SAID),
    "a long header": (b"\x93NUMPY\x02\x00" + b"\xff\xff\xff\x7f" + b" " * 10 * LIMIT, "cannot be"),
    "objects": (zeros(10 * LIMIT, descr="|O", shape=(1,)), SAID),
}


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("packed", [True, False])
def test_an_array(tmp_path: Path, bomb: str, packed: bool) -> None:
    content, said = BOMBS[bomb]
    folder = write_sensorium(tmp_path / "mouse", shape=(4, 4))
    path = folder
    (folder / "meta/trials/tiers.npy").write_bytes(content)
    if packed:
        path = tmp_path / "mouse.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in folder.rglob("*.npy"):
                archive.write(file, file.relative_to(folder))
        assert path.stat().st_size < LIMIT
    refused(lambda: read_file("sensorium", path, name="m", allow_pickle=True), said)
    refused(lambda: images_of("sensorium", path, allow_pickle=True), said)


def test_all_responses_together(tmp_path: Path) -> None:
    folder = write_sensorium(tmp_path, shape=(4, 4), n_neurons=50_000)
    refused(lambda: read_file("sensorium", folder, name="m"), f"responses of .* {SAID}")


def test_images_that_are_read_later(tmp_path: Path) -> None:
    folder = write_sensorium(tmp_path, shape=(200, 200))
    with reading_limit(LIMIT):
        stimuli = images_of("sensorium", folder)
    assert stimuli.read(stimuli.ids[:3]).shape == (3, 200, 200)
    refused(lambda: stimuli.read(stimuli.ids), f"19 images of .* {SAID}")


def test_repeats_that_are_padded(tmp_path: Path) -> None:
    parts = [np.ones((n, 5), np.float32) for n in (2000, *[1] * 99)]
    changes = {"ss_all": ragged(parts)}
    path = write_minimodel(tmp_path, shape=(4, 4), n_images=110, n_test=100, changes=changes)
    refused(
        lambda: read_file("minimodel", path.recording, name="m", allow_pickle=True),
        f"repeats of ss_all .* {SAID}",
    )


@pytest.mark.parametrize("key", ["img", "other"])
@pytest.mark.parametrize("compressed", [True, False])
def test_a_matlab_file(tmp_path: Path, key: str, compressed: bool) -> None:
    path = tmp_path / "images.mat"
    scipy.io.savemat(path, {key: np.zeros((100, 100, 200))}, do_compression=compressed)
    refused(lambda: images_of("minimodel", path), f"an array of .*images.mat {SAID}")


@pytest.mark.parametrize("bomb", ["a number", "a name", "another part"])
def test_a_matlab_file_that_lies(tmp_path: Path, bomb: str) -> None:
    """Its array has one entry, and one part of it is longer than the limit."""
    name = b"i" * 10 * LIMIT if bomb == "a name" else b"img\0\0\0\0\0"
    parts = [
        struct.pack("<4I", 6, 8, 9 | (bomb == "another part") << 11, 0),
        struct.pack("<2I2i", 5, 8, 1, 1),
        struct.pack("<2I", 1, len(name) if bomb == "a name" else 3) + name,
        struct.pack("<2I", 2, 1) + bytes(8) if bomb == "another part" else b"",
        struct.pack("<2I", 2, 10 * LIMIT) + bytes(10 * LIMIT),
    ]
    inside = b"".join(parts)
    packed = zlib.compress(struct.pack("<2I", 14, len(inside)) + inside)
    path = tmp_path / "images.mat"
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"
    path.write_bytes(header + struct.pack("<2I", 15, len(packed)) + packed)
    assert path.stat().st_size < LIMIT
    refused(lambda: images_of("minimodel", path), f"an array of .*images.mat {SAID}")


def test_a_matlab_file_of_the_old_format(tmp_path: Path) -> None:
    path = tmp_path / "images.mat"
    scipy.io.savemat(path, {"img": np.zeros((2000, 2000))}, format="4")
    refused(lambda: images_of("minimodel", path), f"`img` of .*images.mat {SAID}")


@pytest.mark.parametrize("many", ["n_training", "n_neurons", "n_repeats"])
def test_a_synthetic_recording(many: str) -> None:
    settings = RecordingSettings(
        format="synthetic", name="made", synthetic=SyntheticSettings(**{many: 10**9})
    )
    refused(lambda: FORMATS["synthetic"].images(settings), f"of recording.synthetic of made {SAID}")
