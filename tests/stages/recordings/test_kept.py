"""Arrays kept beside a cache: the same bits, named by what they depend on, damage ignored."""

from types import SimpleNamespace

import numpy as np
import pytest

from stages.recordings.kept import kept_beside


def beside(folder, arrays, *, seed=0, keep=True):
    """Arrays kept beside a cache in a folder; those that are given, where there are none."""
    cache = SimpleNamespace(path=f"{folder}/features.zarr")
    return kept_beside(cache, "responses", {"seed": seed}, lambda: arrays, keep=keep)


@pytest.fixture
def arrays():
    draw = np.random.default_rng(0)
    return {
        "single": draw.gamma(1, 2, (8, 4)).astype(np.float32),
        "test": draw.gamma(1, 2, (3, 10, 4)).astype(np.float32),
    }


def test_what_was_kept_comes_back_bit_for_bit(tmp_path, arrays):
    assert beside(tmp_path, arrays, keep=False) is arrays and not list(tmp_path.iterdir())
    assert beside(tmp_path, arrays) is arrays
    kept = beside(tmp_path, {})
    assert kept.keys() == arrays.keys()
    for name, values in arrays.items():
        assert kept[name].dtype == values.dtype
        np.testing.assert_array_equal(kept[name], values)
    (path,) = tmp_path.iterdir()
    assert path.name.startswith("responses-")


def test_the_name_follows_what_the_arrays_depend_on(tmp_path, arrays):
    for seed in (0, 1):
        assert beside(tmp_path, arrays, seed=seed) is arrays
    assert len(list(tmp_path.glob("responses-*"))) == 2


@pytest.mark.parametrize("position", [0, 40, 200, -30])
def test_a_damaged_file_is_as_good_as_none(tmp_path, arrays, position):
    beside(tmp_path, arrays)
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(bytes(content))
    found = beside(tmp_path, {}, keep=False)
    assert all(np.array_equal(found[name], arrays[name]) for name in found)
    path.write_bytes(bytes(content[:100]))
    assert beside(tmp_path, {}, keep=False) == {}


def test_nothing_is_kept_beside_a_url(arrays):
    assert beside("https://host.invalid", arrays) is arrays
    assert beside("https://host.invalid", {}) == {}
