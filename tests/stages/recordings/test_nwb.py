"""Recordings in NWB files, written with pynwb in the layouts that laboratories use."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from support import nwb_files
from support.nwb_files import (
    DFF,
    IMAGES,
    ONSET,
    RATE,
    SHOWN,
    new_file,
    nwb_images,
    read_nwb,
    written,
)

from cache import UserError
from stages.recordings import Recording, SplitSettings
from stages.recordings.readers import nwb_responses

pytestmark = pytest.mark.filterwarnings("ignore:The linked table for DynamicTableRegion")


def responses_to(recording: Recording, image: int) -> NDArray[np.float32]:
    """All responses to an image, of whatever tier."""
    if image in recording.test_image_ids:
        (row,) = np.flatnonzero(recording.test_image_ids == image)
        return recording.test_responses[row]
    return recording.responses[recording.image_ids == image]


def means(window: tuple[float, float]) -> NDArray[np.float64]:
    """Mean dF/F of every presentation, frame by frame."""
    times = np.arange(len(DFF)) / RATE
    inside = [(times >= t + window[0]) & (times < t + window[1]) for t in ONSET]
    return np.stack([DFF[each].mean(axis=0) for each in inside])


def assert_responses(recording: Recording, expected: NDArray[np.floating[Any]]) -> None:
    for image in np.unique(SHOWN):
        np.testing.assert_allclose(
            responses_to(recording, image), expected[image == SHOWN], rtol=1e-5, atol=1e-6
        )


# a table of intervals with an image-index column


@pytest.mark.parametrize("window", [(0.05, 0.55), (0.0, 0.2), (-0.5, 0.4)])
def test_fluorescence_is_averaged_in_the_window(tmp_path: Path, window: Any) -> None:
    file = new_file()
    nwb_files.add_fluorescence(file, DFF)
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN})
    recording = read_nwb(written(file, tmp_path / "a.nwb"), window=window)
    assert_responses(recording, means(window))
    assert recording.test_image_ids.tolist() == [0, 1, 2] and len(recording.image_ids) == 9
    assert recording.test_responses.shape == (3, 4, 4) and recording.validation.sum() == 1
    assert recording.unit_ids is not None and recording.unit_ids.tolist() == [100, 101, 102, 103]
    (remark,) = recording.remarks
    assert "8 images are for training, 1 for validation and 3 for testing" in remark


def test_parts_that_are_read_at_a_time_change_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = new_file()
    nwb_files.add_fluorescence(file, DFF)
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN})
    path = written(file, tmp_path / "a.nwb")
    monkeypatch.setattr(nwb_responses, "_AT_A_TIME", 28)  # seven frames
    assert_responses(read_nwb(path), means((0.05, 0.55)))


def test_one_region_may_be_a_vector(tmp_path: Path) -> None:
    file = new_file()
    nwb_files.add_fluorescence(file, DFF[:, 0], n_rois=1)
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN})
    assert_responses(read_nwb(written(file, tmp_path / "a.nwb")), means((0.05, 0.55))[:, :1])


def test_units_that_were_not_observed_have_no_response(tmp_path: Path) -> None:
    file, spikes = new_file(), np.arange(0, ONSET[-1] + 3, 0.1)
    file.add_unit(spike_times=spikes, obs_intervals=[[0.0, ONSET[3]], [ONSET[6], ONSET[-1] + 3]])
    file.add_unit(spike_times=spikes, obs_intervals=[[0.0, ONSET[-1] + 3]])
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN})
    recording = read_nwb(written(file, tmp_path / "a.nwb"))
    expected = np.full((len(SHOWN), 2), 5.0)
    expected[3:6, 0] = np.nan
    for image in np.unique(SHOWN):
        found = responses_to(recording, image)
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected[image == SHOWN]))
        assert ((found == 5) | np.isnan(found)).all()


def test_timestamps_of_frames_count(tmp_path: Path) -> None:
    file = new_file()
    times = np.cumsum(np.random.default_rng(3).uniform(0.02, 0.08, len(DFF)))
    nwb_files.add_fluorescence(file, DFF, timestamps=times)
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN})
    inside = [(times >= t + 0.05) & (times < t + 0.55) for t in ONSET]
    expected = np.stack([DFF[each].mean(axis=0) for each in inside])
    assert_responses(read_nwb(written(file, tmp_path / "a.nwb")), expected)


def test_spikes_are_counted_in_the_window(tmp_path: Path) -> None:
    file, draw = new_file(), np.random.default_rng(4)
    spikes = [np.sort(draw.uniform(0, ONSET[-1] + 3, n)) for n in (400, 900, 30)]
    for unit, times in enumerate(spikes):
        file.add_unit(spike_times=times, id=7 + unit)
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN})
    recording = read_nwb(written(file, tmp_path / "a.nwb"), responses="units")
    windows = [(t + 0.05, t + 0.55) for t in ONSET]
    counts = np.array([[((s >= a) & (s < b)).sum() for s in spikes] for a, b in windows])
    assert_responses(recording, counts)
    assert recording.unit_ids is not None and recording.unit_ids.tolist() == [7, 8, 9]


def test_tiers_of_a_column_go_before_the_split(tmp_path: Path) -> None:
    tiers = np.where(SHOWN < 2, "test", np.where(SHOWN < 5, "validation", "train"))
    tiers[SHOWN == 11] = "other"
    tiers = tiers.astype(object)
    file = new_file()
    nwb_files.add_fluorescence(file, DFF)
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN, "set": tiers})
    recording = read_nwb(written(file, tmp_path / "a.nwb"), tier="set")
    assert recording.test_image_ids.tolist() == [0, 1]
    assert set(recording.image_ids[recording.validation]) == {2, 3, 4}
    assert 11 not in recording.all_image_ids


@pytest.mark.parametrize("blank", [-1.0, np.nan, "-1.0", "nan", np.uint32(2**32 - 1)], ids=str)
def test_blank_screens_are_left_out(tmp_path: Path, blank: Any) -> None:
    column = np.array([*map(str, SHOWN)]) if isinstance(blank, str) else SHOWN.astype(type(blank))
    column = column.astype(object) if isinstance(blank, str) else column
    column[SHOWN == 5] = blank
    file = new_file()
    nwb_files.add_fluorescence(file, DFF)
    nwb_files.add_presentations(file, ONSET, {"frame": column}, name="scenes_presentations")
    recording = read_nwb(written(file, tmp_path / "a.nwb"), image="frame")
    assert set(recording.all_image_ids) == set(range(12)) - {5}


def test_images_may_be_told_by_name(tmp_path: Path) -> None:
    file = new_file()
    nwb_files.add_fluorescence(file, DFF)
    nwb_files.add_images(file, IMAGES)
    nwb_files.add_presentations(file, ONSET, {"image_name": [f"scene{i}" for i in SHOWN]})
    path = written(file, tmp_path / "a.nwb")
    assert_responses(read_nwb(path, image="image_name"), means((0.05, 0.55)))
    with pytest.raises(UserError, match=r"no column image_index \(it has start_time, .*image_name"):
        read_nwb(path)


# stimulus templates


@pytest.mark.parametrize("ordered", [True, False])
def test_an_index_series_shows_images_of_its_template(tmp_path: Path, ordered: bool) -> None:
    file = new_file()
    nwb_files.add_fluorescence(file, DFF)
    template = nwb_files.add_images(file, IMAGES, ordered=ordered)
    nwb_files.add_images(file, IMAGES[:2] // 2, name="other")
    nwb_files.add_index_series(file, SHOWN.astype(np.uint32), ONSET, template)
    path = written(file, tmp_path / "a.nwb")
    assert_responses(read_nwb(path), means((0.05, 0.55)))
    stimuli = nwb_images(path)
    np.testing.assert_array_equal(stimuli.read(stimuli.ids), IMAGES)  # scene10 is after scene9
    again = pickle.loads(pickle.dumps(stimuli))
    np.testing.assert_array_equal(again.read(np.array([10, 2])), IMAGES[[10, 2]])
    assert nwb_images(path, images="other").ids.tolist() == [0, 1]


def test_an_index_series_may_lead_to_a_series_of_images(tmp_path: Path) -> None:
    file = new_file()
    nwb_files.add_fluorescence(file, DFF)
    nwb_files.add_image_stack(file, IMAGES)
    other = nwb_files.add_images(file, IMAGES // 2)
    nwb_files.add_index_series(file, SHOWN.astype(np.uint32), ONSET, other)
    path = written(file, tmp_path / "a.nwb")
    with h5py.File(path, "r+") as stored:  # pynwb writes this no more, and older files have it
        series = stored["stimulus/presentation/scenes_stimulus"]
        del series["indexed_images"]
        series["indexed_timeseries"] = h5py.SoftLink("/stimulus/templates/stack")
    assert_responses(read_nwb(path), means((0.05, 0.55)))
    stimuli = nwb_images(path)
    np.testing.assert_array_equal(stimuli.read(stimuli.ids), IMAGES)


@pytest.mark.parametrize("axes", ["row column", "column row"])
def test_a_template_may_be_one_array(tmp_path: Path, axes: Any) -> None:
    file = new_file()
    nwb_files.add_image_stack(file, IMAGES if axes == "row column" else IMAGES.swapaxes(1, 2))
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN})
    stimuli = nwb_images(written(file, tmp_path / "a.nwb"), image_axes=axes)
    assert stimuli.image_shape == (6, 8)
    np.testing.assert_array_equal(stimuli.read(stimuli.ids), IMAGES)


# what was not recorded


def test_windows_beyond_the_recording_are_left_out(tmp_path: Path) -> None:
    file, last = new_file(), ONSET[-3] + 0.5
    nwb_files.add_fluorescence(file, DFF[: int(RATE * last)])
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN})
    file.add_invalid_time_interval(start_time=ONSET[4], stop_time=ONSET[4] + 0.1)
    recording = read_nwb(written(file, tmp_path / "a.nwb"), SplitSettings(min_repeats=3))
    _, remark = recording.remarks
    assert "4 of 21 presentations were left out" in remark
    n_test = np.isfinite(recording.test_responses[:, :, 0]).sum()
    assert len(recording.image_ids) + n_test == 17
