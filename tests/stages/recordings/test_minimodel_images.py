"""Images of the minimodel release: reading and refusals."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
from support.recording_files import images_of, read_file, write_minimodel

from cache import UserError


def test_images_come_first_and_keep_their_dtype(tmp_path: Path) -> None:
    files = write_minimodel(tmp_path)
    stack = scipy.io.loadmat(files.images)["img"]
    stimuli = images_of("minimodel", files.images)
    assert len(stimuli) == 34 and stimuli.image_shape == (66, 264)
    assert stimuli.dtype == np.uint8 and str(files.images) in stimuli.source
    batch = stimuli.read(np.array([33, 0, 5]))
    assert batch.flags.c_contiguous and batch.dtype == np.uint8
    np.testing.assert_array_equal(batch, np.stack([stack[:, :, i] for i in (33, 0, 5)]))


def test_the_stack_is_not_copied_for_a_transposition(tmp_path: Path) -> None:
    reader = images_of("minimodel", write_minimodel(tmp_path).images).reader
    images = reader.whole()  # type: ignore[attr-defined]
    assert images.base is not None and images.transpose(1, 2, 0).flags.f_contiguous
    assert reader.whole().base is images.base  # type: ignore[attr-defined]


def test_pickled_images_carry_the_path_and_read_the_same(tmp_path: Path) -> None:
    stimuli = images_of("minimodel", write_minimodel(tmp_path).images)
    packed = pickle.dumps(stimuli)
    assert len(packed) < 5_000
    with ThreadPoolExecutor(4) as threads:
        copies = list(threads.map(pickle.loads(packed).read, [stimuli.ids] * 4))
    for copy in copies:
        np.testing.assert_array_equal(copy, stimuli.read(stimuli.ids))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"images": np.zeros((2, 3, 4))}, r"no variable `img` \(it holds images\)"),
        ({"img": np.zeros((2, 3))}, r"`img` of .* \(row, column, image\), found shape \(2, 3\)"),
        ({"img": np.full((2, 3, 4), "a", dtype=object)}, "must hold real numbers"),
    ],
)
def test_other_mat_files_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    scipy.io.savemat(tmp_path / "images.mat", content)
    with pytest.raises(UserError, match=message):
        images_of("minimodel", tmp_path / "images.mat")


@pytest.mark.parametrize("user_block", [0, 512])
def test_a_damaged_hdf5_mat_file_is_refused(tmp_path: Path, user_block: int) -> None:
    path = tmp_path / "images.mat"
    path.write_bytes(b"M" * user_block + b"\x89HDF\r\n\x1a\n" + bytes(600))
    with pytest.raises(UserError, match="cannot be read as an HDF5 file"):
        images_of("minimodel", path)


def test_images_of_matlab_v73_are_read(tmp_path: Path) -> None:
    stack = np.random.default_rng(0).integers(0, 256, (6, 8, 5), dtype=np.uint8)
    with h5py.File(tmp_path / "images.mat", "w", userblock_size=512) as file:
        file["img"] = stack.T  # MATLAB's order of axes is HDF5's reversed
    stimuli = images_of("minimodel", tmp_path / "images.mat")
    assert stimuli.image_shape == (6, 8)
    np.testing.assert_array_equal(
        stimuli.read(np.array([4, 1])), stack[..., [4, 1]].transpose(2, 0, 1)
    )


def test_a_file_that_is_no_mat_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "images.mat").write_bytes(b"not a MATLAB file at all, but long enough" * 20)
    with pytest.raises(UserError, match=r"images\.mat cannot be read as a MATLAB v5 file"):
        images_of("minimodel", tmp_path / "images.mat")


def test_a_truncated_mat_file_is_refused(tmp_path: Path) -> None:
    path = write_minimodel(tmp_path, shape=(8, 8)).images
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be read as a MATLAB v5 file"):
        images_of("minimodel", path)


def test_absent_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.mat does not exist"):
        images_of("minimodel", tmp_path / "none.mat")
    with pytest.raises(UserError, match=r"none\.npz: no such file or folder"):
        read_file("minimodel", tmp_path / "none.npz", name="m")
