"""Recordings of the minimodel release: reading and refusals."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.recording_files import ragged, read_file, write_minimodel

from cache import UserError
from stages.recordings import FORMATS, RecordingSettings


def crop_of(name: str, path: Path | None = None) -> tuple[int, int] | None:
    settings = RecordingSettings(format="minimodel", name=name, path=path)
    return FORMATS["minimodel"].columns(settings)


def stored(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as npz:
        return dict(npz)


def test_a_recording_is_read_trial_by_trial(tmp_path: Path) -> None:
    path = write_minimodel(tmp_path).recording
    raw, recording = stored(path), read_file("minimodel", path, name="FX10")
    assert recording.name == "FX10" and recording.unit_ids is None
    np.testing.assert_array_equal(recording.neurons, np.arange(5))
    np.testing.assert_array_equal(recording.responses, raw["sp"].T)
    assert recording.responses.flags.c_contiguous and recording.responses.dtype == np.float32
    np.testing.assert_array_equal(recording.image_ids, raw["istim_sp"])
    np.testing.assert_array_equal(recording.test_image_ids, raw["istim_ss"])
    np.testing.assert_array_equal(recording.test_responses, raw["ss_all"])
    np.testing.assert_array_equal(recording.x, raw["xpos"])
    np.testing.assert_array_equal(recording.y, raw["ypos"])


def test_validation_is_every_tenth_trial_from_the_first(tmp_path: Path) -> None:
    path = write_minimodel(tmp_path, n_trials=25).recording
    recording = read_file("minimodel", path, name="FX10")
    np.testing.assert_array_equal(np.flatnonzero(recording.validation), [0, 10, 20])


def test_positions_are_optional(tmp_path: Path) -> None:
    changes = {"xpos": None, "ypos": None, "iplane": None}
    path = write_minimodel(tmp_path, changes=changes).recording
    recording = read_file("minimodel", path, name="FX10")
    assert recording.x is None and recording.y is None


def test_other_number_types_become_the_same_recording(tmp_path: Path) -> None:
    path = write_minimodel(tmp_path / "a").recording
    raw = stored(path)
    changes = {
        "sp": raw["sp"].astype(np.float64),
        "istim_sp": raw["istim_sp"].astype(np.float64),
        "istim_ss": raw["istim_ss"].astype(np.uint16),
    }
    other = read_file(
        "minimodel", write_minimodel(tmp_path / "b", changes=changes).recording, name="FX10"
    )
    recording = read_file("minimodel", path, name="FX10")
    np.testing.assert_array_equal(other.responses, recording.responses)
    assert other.responses.dtype == np.float32
    for ids in ("image_ids", "test_image_ids"):
        assert getattr(other, ids).dtype == np.int64
        np.testing.assert_array_equal(getattr(other, ids), getattr(recording, ids))


def test_ragged_repeats_are_padded_with_nan(tmp_path: Path) -> None:
    parts = [np.full((n, 5), n, dtype=np.float32) for n in (2, 4, 1, 3)]
    path = write_minimodel(tmp_path, changes={"ss_all": ragged(parts)}).recording
    test = read_file("minimodel", path, name="FX10", allow_pickle=True).test_responses
    assert test.shape == (4, 4, 5) and test.dtype == np.float32
    for image, part in zip(test, parts, strict=True):
        np.testing.assert_array_equal(image[: len(part)], part)
        assert np.isnan(image[len(part) :]).all()


def test_an_object_array_of_equal_repeats_reads_like_a_plain_one(tmp_path: Path) -> None:
    plain = write_minimodel(tmp_path / "a").recording
    changes = {"ss_all": stored(plain)["ss_all"].astype(object)}
    objects = write_minimodel(tmp_path / "b", changes=changes).recording
    np.testing.assert_array_equal(
        read_file("minimodel", objects, name="m", allow_pickle=True).test_responses,
        read_file("minimodel", plain, name="m").test_responses,
    )


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_object_arrays_are_not_unpickled_without_consent(tmp_path: Path) -> None:
    trap = np.array([_Trap(tmp_path / "sprung"), None], dtype=object)
    path = write_minimodel(tmp_path, changes={"ss_all": trap}).recording
    with pytest.raises(UserError, match=r"ss_all\.npy of .*FX10.*recording\.allow_pickle = true"):
        read_file("minimodel", path, name="FX10")
    assert not (tmp_path / "sprung").exists()


L1_A1_IDS = np.concatenate([np.arange(29_990, 30_010), np.arange(30_490, 30_510)])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("L1_A1", "recording.npz"),
        ("mouse L1_A1, first day", "recording.npz"),
        ("mine", "L1_A1_nat60k_2023_03_06.npz"),
    ],
)
def test_l1_a1_loses_its_flipped_images_before_the_split(
    tmp_path: Path, name: str, file: str
) -> None:
    changes = {"istim_sp": L1_A1_IDS}
    path = write_minimodel(tmp_path, name=file, n_trials=40, changes=changes).recording
    recording = read_file("minimodel", path, name=name)
    kept = np.r_[0:10, 31:40]
    np.testing.assert_array_equal(recording.image_ids, np.r_[29_990:30_000, 30_501:30_510])
    np.testing.assert_array_equal(recording.responses, stored(path)["sp"].T[kept])
    np.testing.assert_array_equal(np.flatnonzero(recording.validation), [0, 10])


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("L1_A5", "L1_A5_nat60k_2023_02_27.npz"),
        ("l1_a1", "my_L1_A1.npz"),
        ("L1_A10", "L1_A12.npz"),
    ],
)
def test_other_mice_keep_all_images(tmp_path: Path, name: str, file: str) -> None:
    changes = {"istim_sp": L1_A1_IDS}
    path = write_minimodel(tmp_path, name=file, n_trials=40, changes=changes).recording
    recording = read_file("minimodel", path, name=name)
    np.testing.assert_array_equal(recording.image_ids, L1_A1_IDS)


@pytest.mark.parametrize(
    ("name", "crop"),
    [
        ("FX20", (46, 176)),
        ("FX20_nat60k_2023_09_29", (46, 176)),
        ("mouse FX20", (46, 176)),
        ("FX10", (0, 132)),
        ("FX201", (0, 132)),
        ("fx20", (0, 132)),
        ("mouse", (0, 132)),
    ],
)
def test_only_fx20_looks_at_other_columns(name: str, crop: tuple[int, int]) -> None:
    assert crop_of(name) == crop


def test_the_file_can_tell_the_crop() -> None:
    path = Path("data") / "FX20_nat60k_2023_09_29.npz"
    assert crop_of("mine", path) == (46, 176)
    assert crop_of("mine", Path("FX20") / "other.npz") == (0, 132)


@pytest.mark.parametrize("key", ["sp", "istim_sp", "istim_ss", "ss_all"])
def test_a_missing_array_is_named_with_those_there(tmp_path: Path, key: str) -> None:
    path = write_minimodel(tmp_path, changes={key: None}).recording
    with pytest.raises(UserError, match=rf"no array `{key}` \(it holds iplane, .*xpos, ypos\)"):
        read_file("minimodel", path, name="FX10")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sp": np.ones(30)}, r"sp of .* 2 axes \(neuron, trial\), found shape \(30,\)"),
        ({"sp": np.full((5, 30), "a")}, "sp of .* must hold real numbers, found dtype <U1"),
        ({"sp": np.ones((5, 30), dtype=complex)}, "sp of .* must hold real numbers"),
        ({"istim_sp": np.arange(29)}, "names 29 images, but sp has 30 trials"),
        ({"istim_sp": np.ones((30, 1))}, r"istim_sp of .* found shape \(30, 1\)"),
        ({"istim_sp": np.full(30, 0.5)}, r"istim_sp of .* must hold whole numbers, found 0\.5"),
        ({"istim_sp": np.full(30, np.nan)}, r"istim_sp of .* whole numbers, found nan"),
        ({"istim_ss": np.arange(3)}, r"shape \(4, 3, 5\), but istim_ss has 3 images"),
        ({"ss_all": np.ones((4, 3, 6))}, r"shape \(4, 3, 6\), but .* sp 5 neurons"),
        ({"ss_all": np.ones((4, 5))}, r"ss_all of .* found shape \(4, 5\)"),
        ({"xpos": np.ones(4)}, r"x has shape \(4,\), but there are 5 neurons"),
        ({"ypos": np.ones((5, 1))}, r"ypos of .* found shape \(5, 1\)"),
        ({"ss_all": np.ones((4, 1, 5))}, r"no test image was shown twice \(4 test images\)"),
        ({"sp": np.full((5, 30), np.inf)}, "5 of 5 neurons have infinite single-trial"),
    ],
)
def test_arrays_that_disagree_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = write_minimodel(tmp_path, shape=(4, 4), changes=changes).recording
    with pytest.raises(UserError, match=message):
        read_file("minimodel", path, name="FX10")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([np.ones((2, 5))] * 2 + [np.ones((3, 5))], "3 images and 5 neurons, but istim_ss has 4"),
        ([np.ones((2, 5))] * 3 + [np.ones((2, 4))], "4 images and 4 neurons, but .* sp 5 neurons"),
        ([np.ones((2, 5))] * 3 + [np.ones(5)], r"entry 3 of ss_all of .* found shape \(5,\)"),
        ([np.ones((2, 5))] * 3 + [np.full((2, 5), "a")], "entry 3 of ss_all .* real numbers"),
    ],
)
def test_ragged_repeats_that_disagree_are_refused(
    tmp_path: Path, parts: list[NDArray[Any]], message: str
) -> None:
    path = write_minimodel(tmp_path, shape=(4, 4), changes={"ss_all": ragged(parts)}).recording
    with pytest.raises(UserError, match=message):
        read_file("minimodel", path, name="FX10", allow_pickle=True)


def test_a_file_that_is_no_npz_is_refused(tmp_path: Path) -> None:
    path = write_minimodel(tmp_path, shape=(4, 4)).recording
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"FX10.*is not a readable \.zip or \.npz"):
        read_file("minimodel", path, name="FX10")
    with pytest.raises(UserError, match=r"not a readable \.zip or \.npz file \(it is a folder\)"):
        read_file("minimodel", path.parent, name="FX10")


def test_a_pickle_is_not_loaded_even_with_consent_to_object_arrays(tmp_path: Path) -> None:
    path = tmp_path / "recording.npz"
    path.write_bytes(pickle.dumps(_Trap(tmp_path / "sprung")))
    with pytest.raises(UserError, match=r"not a readable \.zip or \.npz"):
        read_file("minimodel", path, name="FX10", allow_pickle=True)
    assert not (tmp_path / "sprung").exists()


def test_a_flipped_bit_in_the_responses_is_found(tmp_path: Path) -> None:
    path = write_minimodel(tmp_path, shape=(4, 4)).recording
    content = bytearray(path.read_bytes())
    content[content.index(stored(path)["sp"].tobytes()) + 11] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"sp\.npy of .* cannot be read .*CRC"):
        read_file("minimodel", path, name="FX10")
