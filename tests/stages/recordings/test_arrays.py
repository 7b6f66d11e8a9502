"""Recordings of arrays: every container, splits, columns, names, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.array_files import KINDS, made_arrays, write_arrays
from support.recording_files import read_file

from cache import UserError
from stages.recordings import (
    FORMATS,
    Recording,
    RecordingSettings,
    chosen_neurons,
    digest_recording,
)


def read(path: Path, **settings: Any) -> Recording:
    return read_file("arrays", path, **settings)


# containers


@pytest.mark.parametrize("kind", KINDS)
def test_every_container_gives_the_same_recording(tmp_path: Path, kind: str) -> None:
    arrays = made_arrays()
    path = write_arrays(tmp_path, kind, arrays)
    recording = read(path)
    rows = [np.flatnonzero(arrays["image"] == image) for image in range(20, 25)]
    np.testing.assert_array_equal(recording.test_responses, arrays["responses"][np.array(rows)])
    single = arrays["image"] < 20
    np.testing.assert_array_equal(recording.image_ids, arrays["image"][single])
    np.testing.assert_array_equal(recording.responses, arrays["responses"][single])
    np.testing.assert_array_equal(recording.columns["depth"], arrays["depth"])
    np.testing.assert_array_equal(recording.x, arrays["x"])
    settings = RecordingSettings(format="arrays", name="mouse", path=path)
    stimuli = FORMATS["arrays"].own_images(settings)
    ids = np.array([24, 3, 3, 0])
    np.testing.assert_array_equal(stimuli.read(ids), arrays["images"][ids])
    assert stimuli.dtype == (np.int16 if kind == "nc" else np.uint8)
    assert FORMATS["arrays"].recognises(path)


@pytest.mark.parametrize("kind", ["npz", "h5", "zarr"])
def test_texts_are_ids_tiers_and_columns(tmp_path: Path, kind: str) -> None:
    names = np.array([f"p{i:02d}" for i in range(25)])[::-1]
    plain = made_arrays()
    tier = np.where(plain["image"] < 4, "val", np.where(plain["image"] < 20, "train", "test"))
    texts = {"image": names[plain["image"]], "image_id": names, "tier": tier}
    areas = np.array(["V1", "LM", "V1"])
    arrays = made_arrays(**texts, area=areas, unit_id=np.array(["a", "b", "c"]))
    recording = read(write_arrays(tmp_path, kind, arrays))
    np.testing.assert_array_equal(recording.image_ids, plain["image"][plain["image"] < 20])
    np.testing.assert_array_equal(np.unique(recording.image_ids[recording.validation]), range(4))
    assert recording.columns["area"].tolist() == areas.tolist()
    assert recording.columns["unit_name"].tolist() == ["a", "b", "c"]


def test_names_of_arrays_are_settings(tmp_path: Path) -> None:
    arrays = made_arrays(dff=made_arrays()["responses"], responses=None)
    path = write_arrays(tmp_path, "h5", {f"s/{k}": v for k, v in arrays.items()})
    keys = {"responses": "s/dff", "image": "s/image", "x": "s/x", "images": "s/images"}
    recording = read(path, keys=keys)
    assert recording.n_neurons == 3 and list(recording.columns) == ["depth"]
    with pytest.raises(UserError, match=r"no array `dff`, which recording.keys.responses names"):
        read(path, keys={"responses": "dff"})


def test_a_saved_recording_is_read_as_it_was(tmp_path: Path) -> None:
    arrays = made_arrays()
    columns = {"area": ["V1", "Ä", ""], "sharp": np.array([True, False, True])}
    recording = Recording.from_arrays(
        arrays["responses"], arrays["image"], arrays["images"], columns=columns, unit_id=[7, 8, 9]
    )
    for ending in ("npz", "zarr"):
        recording.save(tmp_path / f"mouse.{ending}")
        again = read(tmp_path / f"mouse.{ending}", name="recording")
        assert digest_recording(again) == digest_recording(recording)
        with pytest.raises(UserError, match="is there already"):
            recording.save(tmp_path / f"mouse.{ending}")
    with pytest.raises(UserError, match=r"a column is called '../up'"):
        Recording.from_arrays(
            arrays["responses"], arrays["image"], columns={"../up": [1, 2, 3]}
        ).save(tmp_path / "other.zarr")
    assert {each.name for each in tmp_path.iterdir()} == {"mouse.npz", "mouse.zarr"}


# splits


def tiers(recording: Recording) -> list[set[int]]:
    single, validation = recording.image_ids, recording.validation
    parts = single[~validation], single[validation], recording.test_image_ids
    return [set(part.tolist()) for part in parts]


@pytest.mark.parametrize("split", [{}, {"test": 0.5, "seed": 3}, {"validation": 0.5}])
def test_no_image_is_in_two_tiers(split: dict[str, Any]) -> None:
    arrays = made_arrays()
    made = Recording.from_arrays(arrays["responses"], arrays["image"], split=split)
    training, validation, test = tiers(made)
    assert training | validation | test == set(range(25)) and validation and training
    assert not (training & validation or training & test or validation & test)
    assert test == set(range(20, 25)) if "test" not in split else len(test) == 2


def test_all_images_may_be_repeated() -> None:
    responses = np.random.default_rng(0).gamma(1, 2, (20, 6, 3))
    responses[3, 2:] = np.nan
    recording = Recording.from_arrays(responses)
    training, validation, test = tiers(recording)
    assert (len(training), len(validation), len(test)) == (14, 2, 4)
    assert len(recording.image_ids) + np.isfinite(recording.test_responses[..., 0]).sum() == 116
    other = Recording.from_arrays(responses, split={"seed": 1})
    assert tiers(other) != tiers(recording)


def test_test_images_that_are_trained_on_are_refused_or_dropped(tmp_path: Path) -> None:
    arrays = made_arrays()
    tier = np.where(arrays["image"] < 20, "train", "test")
    tier[np.flatnonzero(arrays["image"] == 22)[0]] = "train"
    path = write_arrays(tmp_path, "npz", arrays | {"tier": tier})
    with pytest.raises(UserError, match=r"1 of 5 test images \(22\) are also shown in 1 training"):
        read(path)
    assert 22 not in read(path, overlap="drop").image_ids


# neurons


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ((1, 3), [1, 2]),
        ((4, 0, 3), [4, 0, 3]),
        ((2,), [2]),
        ({"first": 0, "last": 2}, [0, 1]),
        ({"area": "V1"}, [0, 2, 4]),
        ({"area": ("LM", "AL")}, [1, 3]),
        ({"area": "V1", "depth": (100, 400)}, [2]),
        ({"depth": (0, 100, 300)}, [0, 1, 3]),
        ({"unit_id": 12}, [2]),
    ],
)
def test_neurons_are_chosen(choice: Any, expected: list[int]) -> None:
    arrays = made_arrays(n_neurons=5)
    columns = {"area": ["V1", "LM", "V1", "AL", "V1"], "depth": 100.0 * np.arange(5)}
    ids = np.arange(10, 15)
    whole = Recording.from_arrays(
        arrays["responses"], arrays["image"], columns=columns, unit_id=ids
    )
    settings = RecordingSettings(format="arrays", name="m", neurons=choice)
    chosen = chosen_neurons(settings, whole)
    assert chosen.neurons.tolist() == expected
    np.testing.assert_array_equal(chosen.responses, whole.responses[:, expected])
    np.testing.assert_array_equal(chosen.columns["depth"], columns["depth"][expected])
    assert settings.chosen(5) in (None, len(expected))


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ((0, 9, 1), "neuron 9 is none of them"),
        ((0, 1, 1), "one is named twice"),
        ({"colour": "red"}, "names 'colour', and its neurons have depth, neuron"),
        ({"depth": "deep"}, "the column holds numbers"),
        ({"depth": (900, 950)}, "none of its 3 neurons fits"),
        ({"first": 2, "last": 9}, r"\[2, 9\]"),
    ],
)
def test_neurons_that_there_are_not_are_refused(choice: Any, said: str) -> None:
    arrays = made_arrays()
    columns = {"depth": arrays["depth"]}
    whole = Recording.from_arrays(arrays["responses"], arrays["image"], columns=columns)
    with pytest.raises(UserError, match=said):
        chosen_neurons(RecordingSettings(format="arrays", name="m", neurons=choice), whole)
