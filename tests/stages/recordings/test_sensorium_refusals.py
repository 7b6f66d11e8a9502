"""Refusals of recordings in the Sensorium layout, and their words."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.recording_files import as_zip, images_of, read_file, write_sensorium
from support.sensorium_folder import EXTRA, LAYOUTS, change, trials

from cache import UserError


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return write_sensorium(tmp_path / "in" / "static1-2-3-preproc0", extra_tiers=EXTRA)


@pytest.mark.parametrize("read", ["read_stimuli", "read_recording"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_trial_without_its_file_is_refused(written: Path, layout: str, read: str) -> None:
    tiers, _ = trials(written)
    trial = np.flatnonzero(tiers == "train")[0]
    kind = "images" if read == "read_stimuli" else "responses"
    (written / f"data/{kind}/{trial}.npy").unlink()
    path = LAYOUTS[layout](written)
    message = rf"of 24 trials .*, 1 lack their file in data/{kind}, the first is {trial}\.npy"
    with pytest.raises(UserError, match=message):
        _read(read, path)


@pytest.mark.parametrize("read", ["read_stimuli", "read_recording"])
def test_files_beyond_the_trials_are_refused(written: Path, read: str) -> None:
    tiers, ids = trials(written)
    change(written, "meta/trials/tiers.npy", tiers[:-2])
    change(written, "meta/trials/frame_image_id.npy", ids[:-2])
    with pytest.raises(UserError, match=rf"lists {len(tiers) - 2} trials .* holds 2 files beyond"):
        _read(read, written)


def test_tiers_and_image_ids_of_different_lengths_are_refused(written: Path) -> None:
    tiers, ids = trials(written)
    change(written, "meta/trials/frame_image_id.npy", ids[1:])
    with pytest.raises(UserError, match=rf"shape \({len(tiers)},\), but .* \({len(tiers) - 1},\)"):
        read_file("sensorium", written, name="lurz")


def test_a_recording_without_known_tiers_is_refused(written: Path) -> None:
    tiers, _ = trials(written)
    change(written, "meta/trials/tiers.npy", np.full(len(tiers), "oracle"))
    with pytest.raises(
        UserError, match=r"no trial of tier train, validation, test \(it has oracle"
    ):
        images_of("sensorium", written)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_train": 0}, "0 training and 4 validation trials"),
        ({"n_validation": 0}, "12 training and 0 validation trials"),
        ({"repeats": (1, 1)}, r"no test image was shown twice \(2 test images\)"),
        ({"repeats": ()}, r"no test image was shown twice \(0 test images\)"),
    ],
)
def test_a_recording_that_lacks_a_tier_is_refused(
    tmp_path: Path, sizes: dict[str, Any], message: str
) -> None:
    folder = write_sensorium(tmp_path / "a", shape=(4, 4), **sizes)
    with pytest.raises(UserError, match=message):
        read_file("sensorium", folder, name="lurz")


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (np.ones(4), r"data/responses/\d+\.npy of .* has 4 neurons, trial \d+ has 5"),
        (np.ones((1, 5)), r"data/responses/\d+\.npy of .* found shape \(1, 5\)"),
        (np.array([1, np.inf, 1, 1, 1]), r"1 of 5 neurons have infinite single-trial .*\(1\)"),
    ],
)
def test_unusable_responses_are_refused(
    written: Path, response: NDArray[Any], message: str
) -> None:
    tiers, _ = trials(written)
    trial = np.flatnonzero(tiers == "train")[-1]
    change(written, f"data/responses/{trial}.npy", response)
    with pytest.raises(UserError, match=message):
        read_file("sensorium", written, name="lurz")


def test_rounding_below_zero_is_read_as_zero(written: Path) -> None:
    tiers, _ = trials(written)
    trial = np.flatnonzero(tiers == "train")[0]
    change(written, f"data/responses/{trial}.npy", np.array([-4e-8, 1, 1, 1, 1]))
    recording = read_file("sensorium", written, name="lurz")
    assert recording.responses.min() == 0


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("unit_ids", np.arange(4), r"unit_ids has shape \(4,\), but there are 5 neurons"),
        ("unit_ids", np.full(5, 0.5), r"unit_ids\.npy of .* whole numbers, found 0\.5"),
        ("cell_motor_coordinates", np.ones((4, 3)), r"shape \(4, 3\), expected \(5, 3\)"),
        ("cell_motor_coordinates", np.ones(5), r"2 axes \(neuron, coordinate\)"),
    ],
)
def test_units_and_positions_that_disagree_are_refused(
    written: Path, name: str, array: NDArray[Any], message: str
) -> None:
    change(written, f"meta/neurons/{name}.npy", array)
    with pytest.raises(UserError, match=message):
        read_file("sensorium", written, name="lurz")


def test_object_arrays_need_consent(written: Path) -> None:
    tiers, _ = trials(written)
    change(written, "meta/trials/tiers.npy", tiers.astype(object))
    for read in ("read_stimuli", "read_recording"):
        with pytest.raises(UserError, match=r"meta/trials/tiers\.npy of .*recording\.allow_pickle"):
            _read(read, written)
    assert len(images_of("sensorium", written, allow_pickle=True)) == 19
    recording = read_file("sensorium", written, name="lurz", allow_pickle=True)
    assert recording.responses.shape == (16, 5)


@pytest.mark.parametrize("layout", ["folder", "zip with a top folder"])
def test_a_missing_member_is_named_with_those_beside_it(written: Path, layout: str) -> None:
    (written / "meta/trials/frame_image_id.npy").unlink()
    with pytest.raises(UserError, match=r"frame_image_id\.npy of .* \(beside it: tiers\.npy\)"):
        read_file("sensorium", LAYOUTS[layout](written), name="lurz")


def test_absent_paths_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.zip does not exist"):
        images_of("sensorium", tmp_path / "none.zip")
    with pytest.raises(UserError, match=r"none\.zip: no such file or folder"):
        read_file("sensorium", tmp_path / "none.zip", name="lurz")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_place_without_a_recording_is_refused(written: Path, layout: str) -> None:
    (written / "meta/trials/tiers.npy").unlink()
    with pytest.raises(UserError, match=r"holds no meta/trials/tiers\.npy"):
        read_file("sensorium", LAYOUTS[layout](written), name="lurz")


def test_only_one_folder_is_looked_through(written: Path) -> None:
    for path in (written.parent.parent, as_zip(written.parent)):
        with pytest.raises(UserError, match="neither at its top nor one folder below"):
            read_file("sensorium", path, name="lurz")


@pytest.mark.parametrize("packed", [False, True])
def test_two_recordings_in_one_place_are_refused(written: Path, packed: bool) -> None:
    write_sensorium(written.parent / "other", shape=(4, 4))
    path = as_zip(written.parent, top=False) if packed else written.parent
    with pytest.raises(UserError, match=r"holds 2 recordings \(other/, static1-2-3-preproc0/\)"):
        read_file("sensorium", path, name="lurz")


def test_leftovers_of_other_archivers_are_ignored(written: Path) -> None:
    path = as_zip(written)
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("__MACOSX/static1-2-3-preproc0/meta/trials/._tiers.npy", b"x")
        packed.writestr("static1-2-3-preproc0/data/images/._0.npy", b"x")
        packed.writestr("static1-2-3-preproc0/data/images/", b"")
    assert len(images_of("sensorium", path)) == 19


def test_a_truncated_zip_is_refused(written: Path) -> None:
    path = as_zip(written)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError, match=r"preproc0\.zip is not a readable \.zip"):
        images_of("sensorium", path)


def test_a_damaged_member_is_named(written: Path) -> None:
    path = as_zip(written)
    tiers, _ = trials(written)
    trial = np.flatnonzero(tiers == "validation")[0]
    with zipfile.ZipFile(path) as packed:
        place = packed.getinfo(f"{written.name}/data/responses/{trial}.npy")
        middle = place.header_offset + 30 + len(place.filename) + place.compress_size // 2
    content = bytearray(path.read_bytes())
    content[middle] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"data/responses/{trial}\.npy of .* cannot be read"):
        read_file("sensorium", path, name="lurz")


def test_a_member_that_is_no_array_is_named(written: Path) -> None:
    (written / "meta/trials/tiers.npy").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"tiers\.npy of .* cannot be read"):
        read_file("sensorium", written, name="lurz")


def _read(read: str, path: Path) -> None:
    if read == "read_stimuli":
        images_of("sensorium", path)
    else:
        read_file("sensorium", path, name="lurz")
