"""Files of a kind that was not expected, told by their first bytes."""

import numpy as np
import pytest

from cache import UserError
from stages.recordings.guards.file_kind import unexpected_kind
from stages.recordings.readers.minimodel import MinimodelFormat
from stages.recordings.readers.npy_archive import open_archive

KINDS = {
    b"\x89HDF\r\n\x1a\n": "an HDF5 file, such as NWB",
    b"\x89PNG\r\n": "a PNG image",
    b"<!DOCTYPE html>": "a web page",
    b"version https://git-lfs.github.com/spec/v1": "a pointer of Git LFS",
    b"": "empty",
}


@pytest.mark.parametrize("first", KINDS)
def test_another_kind_of_file_is_named_and_fetching_it_again_is_not_advised(tmp_path, first):
    path = tmp_path / "mouse.npz"
    path.write_bytes(first)
    with pytest.raises(UserError, match=f"is {KINDS[first]}") as error:
        open_archive(path)
    assert "fetch it again" not in str(error.value)
    with pytest.raises(UserError, match="HDF5" if b"HDF" in first else f"is {KINDS[first]}"):
        MinimodelFormat().read_images(path, allow_pickle=False)


def test_a_damaged_file_of_the_right_kind_is_fetched_again(tmp_path):
    np.savez(tmp_path / "mouse.npz", a=np.arange(3))
    path = tmp_path / "cut.npz"
    path.write_bytes((tmp_path / "mouse.npz").read_bytes()[:40])
    with pytest.raises(UserError, match="fetch it again"):
        open_archive(path)
    assert unexpected_kind(path, "a zip archive") is None
