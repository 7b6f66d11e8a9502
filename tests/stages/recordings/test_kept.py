"""Arrays kept beside a cache: the same bits, named by what they depend on, damage ignored."""

from types import SimpleNamespace

import numpy as np
import pytest

from stages.recordings.kept import keep_arrays, kept_arrays, path_beside


def cache(folder):
    return SimpleNamespace(path=str(folder / "features.zarr"))


@pytest.fixture
def arrays():
    draw = np.random.default_rng(0)
    return {
        "single": draw.gamma(1, 2, (8, 4)).astype(np.float32),
        "test": draw.gamma(1, 2, (3, 10, 4)).astype(np.float32),
    }


def test_what_was_kept_comes_back_bit_for_bit(tmp_path, arrays):
    path = path_beside(cache(tmp_path), "responses", {"seed": 0})
    assert kept_arrays(path) is None
    keep_arrays(path, arrays)
    kept = kept_arrays(path)
    assert kept.keys() == arrays.keys()
    for name, values in arrays.items():
        assert kept[name].dtype == values.dtype
        np.testing.assert_array_equal(kept[name], values)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_the_name_follows_what_the_arrays_depend_on(tmp_path):
    one = path_beside(cache(tmp_path), "responses", {"seed": 0})
    assert one.parent == tmp_path and one.name.startswith("responses-")
    assert path_beside(cache(tmp_path), "responses", {"seed": 1}) != one


@pytest.mark.parametrize("position", [0, 40, 200, -30])
def test_a_damaged_file_is_as_good_as_none(tmp_path, arrays, position):
    path = path_beside(cache(tmp_path), "responses", {})
    keep_arrays(path, arrays)
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(bytes(content))
    found = kept_arrays(path)
    assert found is None or all(np.array_equal(found[name], arrays[name]) for name in found)
    path.write_bytes(bytes(content[:100]))
    assert kept_arrays(path) is None


def test_nothing_is_kept_beside_a_url(arrays):
    remote = SimpleNamespace(path="https://host.invalid/features.zarr")
    assert path_beside(remote, "responses", {}) is None and kept_arrays(None) is None
    keep_arrays(None, arrays)
