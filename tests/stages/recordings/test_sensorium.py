"""Recordings and images in the Sensorium layout, read from a folder or a zip."""

from __future__ import annotations

import multiprocessing
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from support.recording_files import as_zip, images_of, read_file, write_sensorium
from support.runs import only_variant
from support.sensorium_folder import EXTRA, LAYOUTS, change, member, trials
from support.tiny import write_experiment

from cache import UserError
from stages.stimuli.stimuli import digest


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write_sensorium(tmp_path / "in" / "static1-2-3-preproc0", extra_tiers=EXTRA)


# images


@pytest.mark.parametrize("layout", LAYOUTS)
def test_images_are_those_of_each_ids_first_trial(written: Path, layout: str) -> None:
    stimuli = images_of("sensorium", LAYOUTS[layout](written))
    tiers, ids = trials(written)
    used = np.isin(tiers, ["train", "validation", "test"])
    np.testing.assert_array_equal(stimuli.ids, np.unique(ids[used]))
    assert len(stimuli) == 12 + 4 + 3  # and none of the other tiers
    assert stimuli.image_shape == (36, 64) and stimuli.dtype == np.float32
    asked = stimuli.ids[::-1]
    expected = [member(written, "images", np.flatnonzero(ids == i)[0])[0] for i in asked]
    np.testing.assert_array_equal(stimuli.read(asked), np.stack(expected))


def test_folder_and_zip_hold_the_same_images(written: Path) -> None:
    folder = digest(images_of("sensorium", written))
    assert digest(images_of("sensorium", as_zip(written))).sha256 == folder.sha256


@pytest.mark.parametrize("layout", ["folder", "zip with a top folder"])
def test_images_are_read_from_threads_and_from_pickled_copies(written: Path, layout: str) -> None:
    stimuli = images_of("sensorium", LAYOUTS[layout](written))
    expected = stimuli.read(stimuli.ids)
    copy = pickle.loads(pickle.dumps(stimuli))
    with ThreadPoolExecutor(4) as threads:
        batches = list(threads.map(copy.read, [stimuli.ids] * 20))
    assert len(batches) == 20
    for batch in batches:
        np.testing.assert_array_equal(batch, expected)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)
def test_a_zip_opened_before_a_fork_is_read_right_after_it(written: Path) -> None:
    stimuli = images_of("sensorium", as_zip(written))
    expected = stimuli.read(stimuli.ids)  # the parent holds an open file now
    fork = multiprocessing.get_context("fork")

    def child() -> None:
        for _ in range(40):
            np.testing.assert_array_equal(stimuli.read(stimuli.ids), expected)

    children = [fork.Process(target=child) for _ in range(3)]
    for process in children:
        process.start()
    for process in children:
        process.join(60)
    assert [process.exitcode for process in children] == [0, 0, 0]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_different_pixels_under_one_id_are_refused(written: Path, layout: str) -> None:
    tiers, ids = trials(written)
    shared = int(ids[tiers == "test"][0])
    first, other = np.flatnonzero(ids == shared)[:2]
    image = member(written, "images", other)
    image[0, -1, -1] += 1
    change(written, f"data/images/{other}.npy", image)
    with pytest.raises(UserError, match=rf"{first}\.npy and .*{other}\.npy .* image id {shared}"):
        images_of("sensorium", LAYOUTS[layout](written))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_equal_pixels_in_unequal_files_are_the_same_image(written: Path, layout: str) -> None:
    tiers, ids = trials(written)
    other = np.flatnonzero(ids == ids[tiers == "test"][0])[1]
    image = member(written, "images", other)
    change(written, f"data/images/{other}.npy", np.asfortranarray(image.astype(np.float64)))
    stimuli = images_of("sensorium", LAYOUTS[layout](written))
    np.testing.assert_array_equal(stimuli.read(ids[[other]]), image)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((36, 64), r"3 axes \(channel, row, column\), found shape \(36, 64\)"),
        ((2, 36, 64), r"has 2 channels \(shape \(2, 36, 64\)\)"),
        ((1, 36, 65), r"is \(36, 65\) float32, the first image \(36, 64\)"),
    ],
)
def test_an_image_of_another_shape_is_named(
    written: Path, layout: str, shape: tuple[int, ...], message: str
) -> None:
    tiers, _ = trials(written)
    trial = np.flatnonzero(tiers == "train")[-1]
    change(written, f"data/images/{trial}.npy", np.ones(shape, dtype=np.float32))
    with pytest.raises(UserError, match=rf"data/images/{trial}\.npy of .*{message}"):
        digest(images_of("sensorium", LAYOUTS[layout](written)))


def test_images_of_mixed_dtypes_are_refused(written: Path) -> None:
    tiers, _ = trials(written)
    trial = np.flatnonzero(tiers == "train")[-1]
    change(written, f"data/images/{trial}.npy", np.ones((1, 36, 64)))
    with pytest.raises(UserError, match=rf"{trial}\.npy of .* float64, the first image .* float32"):
        digest(images_of("sensorium", written))


# recordings


@pytest.mark.parametrize("layout", LAYOUTS)
def test_tiers_become_training_validation_and_repeats(written: Path, layout: str) -> None:
    recording = read_file("sensorium", LAYOUTS[layout](written), name="lurz")
    tiers, ids = trials(written)
    single = np.flatnonzero(np.isin(tiers, ["train", "validation"]))
    assert recording.name == "lurz" and recording.n_neurons == 5
    np.testing.assert_array_equal(recording.image_ids, ids[single])
    np.testing.assert_array_equal(recording.validation, tiers[single] == "validation")
    expected = np.stack([member(written, "responses", t) for t in single]).astype(np.float32)
    np.testing.assert_array_equal(recording.responses, expected)
    assert recording.responses.dtype == recording.test_responses.dtype == np.float32


@pytest.mark.parametrize("layout", LAYOUTS)
def test_test_trials_are_grouped_by_image_in_order_of_id(written: Path, layout: str) -> None:
    recording = read_file("sensorium", LAYOUTS[layout](written), name="lurz")
    tiers, ids = trials(written)
    np.testing.assert_array_equal(recording.test_image_ids, np.unique(ids[tiers == "test"]))
    assert recording.test_responses.shape == (3, 3, 5)
    for image_id, repeats in zip(recording.test_image_ids, recording.test_responses, strict=True):
        shown = np.flatnonzero((ids == image_id) & (tiers == "test"))
        expected = np.stack([member(written, "responses", t) for t in shown]).astype(np.float32)
        np.testing.assert_array_equal(repeats[: len(shown)], expected)
        assert np.isnan(repeats[len(shown) :]).all()
    counts = np.isfinite(recording.test_responses[:, :, 0]).sum(axis=1)
    assert sorted(counts) == [2, 3, 3]


def test_a_training_trial_of_a_test_image_is_no_repeat(written: Path) -> None:
    tiers, ids = trials(written)
    ids[np.flatnonzero(tiers == "train")[0]] = ids[tiers == "test"][0]
    change(written, "meta/trials/frame_image_id.npy", ids)
    recording = read_file("sensorium", written, name="lurz", overlap="drop")
    assert np.isfinite(recording.test_responses[:, :, 0]).sum() == 3 + 2 + 3


def test_units_and_positions_are_read(written: Path) -> None:
    recording = read_file("sensorium", written, name="lurz")
    positions = np.load(written / "meta/neurons/cell_motor_coordinates.npy")
    np.testing.assert_array_equal(recording.unit_ids, [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(recording.x, positions[:, 0])
    np.testing.assert_array_equal(recording.y, positions[:, 1])


def test_units_and_positions_are_optional(tmp_path: Path) -> None:
    folder = write_sensorium(tmp_path / "a", optional=False)
    for path in (folder, as_zip(folder)):
        recording = read_file("sensorium", path, name="lurz")
        assert recording.unit_ids is None and recording.x is None and recording.y is None


def test_absent_files_of_tiers_left_out_do_not_matter(written: Path) -> None:
    tiers, _ = trials(written)
    for trial in np.flatnonzero(tiers == "final_test"):
        (written / f"data/responses/{trial}.npy").unlink()
    assert read_file("sensorium", written, name="lurz").responses.shape == (16, 5)


# a real recording


def test_a_real_recording(tmp_path: Path) -> None:
    given = os.environ.get("VITV1_RECORDING", "")
    if not given or not Path(given).is_file():
        pytest.skip("VITV1_RECORDING names no file; set it to a recording's .zip")
    recording = read_file("sensorium", Path(given), name="lurz")
    assert recording.n_neurons == 1500
    assert (~recording.validation).sum() == 4472 and recording.validation.sum() == 522
    repeats = np.isfinite(recording.test_responses[:, :, 0]).sum(axis=1)
    assert len(repeats) == 100 and set(repeats) == {9, 10} and repeats.sum() == 999
    stimuli = images_of("sensorium", Path(given))
    assert stimuli.image_shape == (36, 64)
    np.testing.assert_array_equal(stimuli.ids, recording.all_image_ids)
    assert stimuli.read(recording.test_image_ids).std() > 1


@pytest.mark.parametrize("how", ["in this process", "in a worker"])
def test_images_that_change_after_they_were_hashed_are_not_used(tmp_path: Path, how: str) -> None:
    stimuli = only_variant(write_experiment(tmp_path)).stimuli
    assert stimuli is not None
    if how == "in a worker":
        stimuli = pickle.loads(pickle.dumps(stimuli))
    stimuli.read(stimuli.ids)
    for path in (tmp_path / "mouse/data/images").glob("*.npy"):
        np.save(path, 255 - np.load(path))
    with pytest.raises(UserError, match="is not the one any more that the command began with"):
        stimuli.read(stimuli.ids[:1])
