"""Sensorium 2022, whose scans of the competition withhold test responses, and videos of 2023."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recording_files import as_zip, images_of, read_file, write_sensorium
from support.sensorium_folder import change, trials

from cache import UserError
from stages.recordings import SensoriumSettings, SplitSettings

ON_VALIDATION = SensoriumSettings(score_on="validation")


def write_2022(folder: Path, *, withheld: bool, **sizes: Any) -> Path:
    """A scan as the competition of 2022 published it: behaviour, metadata, and two test tiers."""
    write_sensorium(folder, extra_tiers={"final_test": 4}, **sizes)
    draw = np.random.default_rng(1)
    tiers, _ = trials(folder)
    for part, n in (("behavior", 3), ("pupil_center", 2)):
        (folder / "data" / part).mkdir()
        for trial in range(len(tiers)):
            np.save(folder / f"data/{part}/{trial}.npy", draw.normal(size=n))
    for kind in ("images", "responses"):
        (folder / f"meta/statistics/{kind}/all").mkdir(parents=True)
        np.save(folder / f"meta/statistics/{kind}/all/std.npy", np.ones(5))
    np.save(folder / "meta/trials/trial_idx.npy", np.arange(len(tiers)))
    np.save(folder / "meta/trials/frame_image_class.npy", np.full(len(tiers), "imagenet"))
    np.save(folder / "meta/neurons/area.npy", np.full(5, "V1"))
    if withheld:
        for trial in np.flatnonzero(np.isin(tiers, ["test", "final_test"])):
            np.save(folder / f"data/responses/{trial}.npy", np.zeros(5))
    return folder


@pytest.fixture
def withheld(tmp_path: Path) -> Path:
    return write_2022(tmp_path / "static26872-17-20-GrayImageNet", withheld=True)


def test_a_scan_of_2022_for_training_is_read_whole(tmp_path: Path) -> None:
    folder = write_2022(tmp_path / "static21067-10-18-GrayImageNet", withheld=False)
    recording = read_file("sensorium", as_zip(folder))
    assert recording.responses.shape == (16, 5) and recording.test_responses.shape == (3, 3, 5)
    assert not recording.remarks


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_withheld_test_responses_are_refused_with_the_remedy(withheld: Path, value: float) -> None:
    tiers, _ = trials(withheld)
    for trial in np.flatnonzero(tiers == "test"):
        change(withheld, f"data/responses/{trial}.npy", np.full(5, value))
    message = r"all responses in its 8 test trials .* withheld.*score_on = \"validation\""
    for path in (withheld, as_zip(withheld)):
        with pytest.raises(UserError, match=message):
            read_file("sensorium", path)


def test_withheld_recordings_are_scored_on_their_validation_images(withheld: Path) -> None:
    tiers, ids = trials(withheld)
    recording = read_file(
        "sensorium", withheld, sensorium=ON_VALIDATION, split=SplitSettings(validation=0.25)
    )
    assert set(recording.test_image_ids) == set(ids[tiers == "validation"])
    assert set(recording.image_ids) == set(ids[tiers == "train"])
    assert recording.validation.sum() == 3 and len(recording.validation) == 12
    for image, responses in zip(recording.test_image_ids, recording.test_responses, strict=True):
        (trial,) = np.flatnonzero((ids == image) & (tiers == "validation"))
        stored = np.load(withheld / f"data/responses/{trial}.npy")
        np.testing.assert_allclose(responses, stored[None], rtol=1e-6)
    (remark,) = recording.remarks
    assert "scored on the 4 images of its validation tier" in remark
    assert "validated on 3 of its training images" in remark and "FEVE are NaN" in remark


def test_validation_images_with_repeats_have_a_feve(withheld: Path) -> None:
    tiers, ids = trials(withheld)
    ids[tiers == "validation"] = [1, 1, 2, 2]
    change(withheld, "meta/trials/frame_image_id.npy", ids)
    recording = read_file("sensorium", withheld, sensorium=ON_VALIDATION)
    assert recording.test_responses.shape == (2, 2, 5)
    assert "NaN" not in recording.remarks[0]


def test_images_that_are_trained_on_are_not_scored_on(withheld: Path) -> None:
    tiers, ids = trials(withheld)
    ids[np.flatnonzero(tiers == "train")[0]] = ids[tiers == "validation"][0]
    change(withheld, "meta/trials/frame_image_id.npy", ids)
    with pytest.raises(UserError, match=r"1 of 4 test images .* are also shown in 1 training"):
        read_file("sensorium", withheld, sensorium=ON_VALIDATION, split=SplitSettings(seed=2))


def test_without_a_validation_tier_nothing_can_be_scored_on_it(tmp_path: Path) -> None:
    folder = write_2022(tmp_path / "scan", withheld=True, n_validation=0)
    with pytest.raises(UserError, match=r"no test image was shown twice \(0 test images\)"):
        read_file("sensorium", folder, sensorium=ON_VALIDATION)


# videos


def write_2023(folder: Path) -> Path:
    """A recording of videos as the competition of 2023 published it."""
    for part, shape in (("videos", (36, 64, 30)), ("responses", (5, 30)), ("behavior", (2, 30))):
        (folder / "data" / part).mkdir(parents=True)
        for trial in range(3):
            np.save(folder / f"data/{part}/{trial}.npy", np.ones(shape, dtype=np.float32))
    for part in ("trials", "neurons"):
        (folder / "meta" / part).mkdir(parents=True)
    np.save(folder / "meta/trials/tiers.npy", np.array(["train", "oracle", "live_test_main"]))
    np.save(folder / "meta/neurons/unit_ids.npy", np.arange(5))
    return folder


@pytest.mark.parametrize("read", [images_of, read_file])
@pytest.mark.parametrize("packed", [False, True])
def test_videos_of_2023_are_refused_as_videos(tmp_path: Path, read: Any, packed: bool) -> None:
    folder = write_2023(tmp_path / "dynamic29156-11-10-Video")
    path = as_zip(folder) if packed else folder
    inside = f"{folder.name}/" if packed else ""
    message = rf"is a recording of videos \({inside}data/videos\), such as .*Sensorium 2023"
    with pytest.raises(UserError, match=message):
        read("sensorium", path)


@pytest.mark.parametrize("inside", ["clip.MP4", "stimuli/clip.avi"])
def test_folders_of_films_are_refused_as_videos(tmp_path: Path, inside: str) -> None:
    film = tmp_path / "films" / inside
    film.parent.mkdir(parents=True)
    film.write_bytes(b"\0\0\0\x18ftypmp42")
    with pytest.raises(UserError, match=rf"films is a recording of videos \({inside}\)"):
        images_of("sensorium", tmp_path / "films")


@pytest.mark.parametrize("content", [b"\0\0\0\x18ftypmp42", b"RIFF\x10\0\0\0AVI LIST"])
def test_a_film_in_place_of_a_recording_is_named(tmp_path: Path, content: bytes) -> None:
    film = tmp_path / "clip"
    film.write_bytes(content)
    with pytest.raises(UserError, match=r"clip is an? (MP4|AVI) video, not a \.zip"):
        read_file("sensorium", film)
