"""Images in two tiers: refused, dropped or told, in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recording_files import as_zip, write_minimodel, write_sensorium

from cache import UserError
from stages.recordings import (
    FORMATS,
    Recording,
    RecordingFormat,
    RecordingSettings,
    check_recording,
    digest_recording,
    plant_recording,
    read_recording,
    recording_path,
    twin_remark,
)
from stages.stimuli import digest, stimuli_from_array

#: Of 12 trials, 0 and 4 are for validation; 20 and 21 are the test images.
SHOWN = np.array([20, 1, 2, 21, 20, 3, 4, 20, 5, 6, 7, 8])
TEST = np.array([20, 21])


class Toy(RecordingFormat):
    """A format from outside, whose trials say their tiers themselves."""

    def planted(self, settings: Any) -> bool:
        return True

    def read(self, settings: RecordingSettings) -> Recording:
        return check_recording(_recording(np.load(recording_path(settings))["shown"]))

    def plant(self, settings: RecordingSettings, **others: Any) -> Recording:
        return check_recording(_recording(SHOWN))


def _recording(shown: Any, **changes: Any) -> Recording:
    draw = np.random.default_rng(0)
    fields = {
        "neurons": np.arange(3),
        "image_ids": shown,
        "responses": np.arange(36, dtype=np.float32).reshape(12, 3)[: len(shown)] + 1,
        "validation": np.arange(len(shown)) % 4 == 0,
        "test_image_ids": TEST,
        "test_responses": draw.gamma(1.0, 2.0, (2, 3, 3)).astype(np.float32),
    }
    return Recording(name="mouse", **{**fields, **changes})


def minimodel(folder: Path, shown: Any) -> Path:
    sp = np.arange(36, dtype=np.float32).reshape(12, 3)[: len(shown)].T + 1
    changes = {"istim_sp": shown, "istim_ss": TEST, "sp": sp}
    files = write_minimodel(folder, shape=(6, 8), n_neurons=3, n_test=2, changes=changes)
    return files.recording


def sensorium(folder: Path, shown: Any) -> Path:
    path = write_sensorium(
        folder, shape=(4, 6), n_train=9, n_validation=3, repeats=(3, 2), optional=False
    )
    tiers, ids = (path / f"meta/trials/{name}.npy" for name in ("tiers", "frame_image_id"))
    single = np.load(tiers) != "test"
    stored = np.load(ids)
    stored[~single] = np.repeat(TEST, [3, 2])
    stored[single] = shown
    np.save(ids, stored)
    return path


def sensorium_zip(folder: Path, shown: Any) -> Path:
    return as_zip(sensorium(folder, shown))


def toy(folder: Path, shown: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "mouse.npz", shown=shown)
    return folder / "mouse.npz"


FILES: dict[str, tuple[str, Callable[[Path, Any], Path]]] = {
    "minimodel": ("minimodel", minimodel),
    "sensorium": ("sensorium", sensorium),
    "sensorium .zip": ("sensorium", sensorium_zip),
    "toy": ("toy", toy),
}


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FORMATS, "toy", Toy())


def read(of: str, folder: Path, shown: Any, **settings: Any) -> Recording:
    name, write = FILES[of]
    path = write(folder, shown)
    return read_recording(RecordingSettings(format=name, name="mouse", path=path, **settings))


@pytest.mark.parametrize("of", FILES)
def test_test_images_in_training_are_refused(of: str, tmp_path: Path) -> None:
    message = (
        r"recording mouse: 2 of 2 test images \(20, 21\) are also shown in \d training and \d "
        r'validation trials.*\[recording\] overlap = "drop"'
    )
    with pytest.raises(UserError, match=message):
        read(of, tmp_path / "a", SHOWN)


@pytest.mark.parametrize("of", FILES)
def test_they_are_dropped_by_name(of: str, tmp_path: Path) -> None:
    whole = read(of, tmp_path / "whole", np.arange(12))
    dropped = read(of, tmp_path / "a", SHOWN, overlap="drop")
    kept = ~np.isin(SHOWN, TEST)
    np.testing.assert_array_equal(dropped.image_ids, SHOWN[kept])
    np.testing.assert_array_equal(dropped.responses, whole.responses[kept])
    np.testing.assert_array_equal(dropped.test_responses, whole.test_responses)
    (remark,) = dropped.remarks
    assert "2 of 2 test images (20, 21)" in remark and remark.endswith("which were left out")


def test_the_release_splits_what_is_left(tmp_path: Path) -> None:
    """As with L1_A1: the recording is that of a file without those trials."""
    dropped = read("minimodel", tmp_path / "a", SHOWN, overlap="drop")
    np.testing.assert_array_equal(dropped.validation, np.arange(8) % 10 == 0)


def test_other_formats_keep_their_tiers(tmp_path: Path) -> None:
    dropped = read("toy", tmp_path / "a", SHOWN, overlap="drop")
    kept = ~np.isin(SHOWN, TEST)
    np.testing.assert_array_equal(dropped.validation, (np.arange(12) % 4 == 0)[kept])


@pytest.mark.parametrize("of", FILES)
def test_without_overlap_the_setting_changes_nothing(of: str, tmp_path: Path) -> None:
    plain = read(of, tmp_path / "a", np.arange(12))
    asked = read(of, tmp_path / "a", np.arange(12), overlap="drop")
    assert digest_recording(plain) == digest_recording(asked)
    assert plain.remarks == asked.remarks == ()


def test_dropping_changes_the_digest_by_the_trials_alone(tmp_path: Path) -> None:
    dropped = read("toy", tmp_path / "a", SHOWN, overlap="drop")
    kept = ~np.isin(SHOWN, TEST)
    alone = check_recording(
        _recording(
            SHOWN[kept],
            responses=_recording(SHOWN).responses[kept],
            validation=_recording(SHOWN).validation[kept],
        )
    )
    assert digest_recording(dropped) == digest_recording(alone)


@pytest.mark.parametrize("of", FILES)
def test_nothing_left_is_refused(of: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="0 training and 0 validation trials"):
        read(of, tmp_path / "a", np.resize(TEST, 12), overlap="drop")


@pytest.mark.parametrize("of", FILES)
def test_validation_images_in_training_are_told(of: str, tmp_path: Path) -> None:
    told = read(of, tmp_path / "a", np.full(12, 7))
    (remark,) = told.remarks
    assert "1 of 1 validation images (7) are also shown in training trials" in remark
    assert len(told.image_ids) == 12


def test_planted_recordings_pass_there_too() -> None:
    def planted(**settings: Any) -> Recording:
        of = RecordingSettings(format="toy", name="mouse", **settings)
        return plant_recording(of, cache=None, variant=None, keep=False)  # type: ignore[arg-type]

    with pytest.raises(UserError, match="overlap"):
        planted()
    assert len(planted(overlap="drop").image_ids) == 8


# the same pixels under two ids


def test_equal_images_under_two_ids_are_told() -> None:
    images = np.random.default_rng(0).integers(0, 256, (22, 4, 5), dtype=np.uint8)
    apart = _recording(np.arange(12))
    assert twin_remark(apart, digest(stimuli_from_array(images, source="s"))) is None
    images[3] = images[21]
    images[15] = images[20]  # which no trial shows
    remark = twin_remark(apart, digest(stimuli_from_array(images, source="s")))
    assert remark is not None
    assert "1 of 2 test images (21) have the same pixels" in remark and "21 as 3" in remark


def test_equal_checksums_are_not_equal_images() -> None:
    from dataclasses import replace

    images = np.random.default_rng(0).integers(0, 256, (22, 4, 5), dtype=np.uint8)
    hashed = digest(stimuli_from_array(images, source="s"))
    alike = replace(hashed, crc32=np.zeros(22, np.uint32))
    assert twin_remark(_recording(np.arange(12)), alike) is None
