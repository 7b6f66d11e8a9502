"""Recordings in NWB files, written with pynwb in the layouts that laboratories use."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import nwb_files
from support.nwb_files import PERIOD, new_file, written
from support.recording_files import read_file

from cache import UserError
from stages.recordings import FORMATS, NwbSettings, Recording, RecordingSettings, SplitSettings
from stages.recordings.readers import nwb_responses

RATE = 20.0
SHOWN = nwb_files.shown_images()
ONSET = 1.003 + PERIOD * np.arange(len(SHOWN))
IMAGES = np.random.default_rng(2).integers(0, 256, (12, 6, 8), dtype=np.uint8)
DFF = np.random.default_rng(1).normal(size=(int(RATE * (ONSET[-1] + 3)), 4)).clip(0)

pytestmark = pytest.mark.filterwarnings("ignore:The linked table for DynamicTableRegion")


def read(path: Path, split: SplitSettings | None = None, **named: Any) -> Recording:
    settings = {} if split is None else {"split": split}
    return read_file("nwb", path, nwb=NwbSettings(**named), **settings)


def images(path: Path, **named: Any) -> Any:
    return FORMATS["nwb"].own_images(
        RecordingSettings(format="nwb", name="mouse", path=path, nwb=NwbSettings(**named))
    )


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
    recording = read(written(file, tmp_path / "a.nwb"), window=window)
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
    assert_responses(read(path), means((0.05, 0.55)))


def test_timestamps_of_frames_count(tmp_path: Path) -> None:
    file = new_file()
    times = np.cumsum(np.random.default_rng(3).uniform(0.02, 0.08, len(DFF)))
    nwb_files.add_fluorescence(file, DFF, timestamps=times)
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN})
    inside = [(times >= t + 0.05) & (times < t + 0.55) for t in ONSET]
    expected = np.stack([DFF[each].mean(axis=0) for each in inside])
    assert_responses(read(written(file, tmp_path / "a.nwb")), expected)


def test_spikes_are_counted_in_the_window(tmp_path: Path) -> None:
    file, draw = new_file(), np.random.default_rng(4)
    spikes = [np.sort(draw.uniform(0, ONSET[-1] + 3, n)) for n in (400, 900, 30)]
    for unit, times in enumerate(spikes):
        file.add_unit(spike_times=times, id=7 + unit)
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN})
    recording = read(written(file, tmp_path / "a.nwb"), responses="units")
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
    recording = read(written(file, tmp_path / "a.nwb"), tier="set")
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
    recording = read(written(file, tmp_path / "a.nwb"), image="frame")
    assert set(recording.all_image_ids) == set(range(12)) - {5}


def test_images_may_be_told_by_name(tmp_path: Path) -> None:
    file = new_file()
    nwb_files.add_fluorescence(file, DFF)
    nwb_files.add_images(file, IMAGES)
    nwb_files.add_presentations(file, ONSET, {"image_name": [f"scene{i}" for i in SHOWN]})
    path = written(file, tmp_path / "a.nwb")
    assert_responses(read(path, image="image_name"), means((0.05, 0.55)))
    with pytest.raises(UserError, match=r"no column image_index \(it has start_time, .*image_name"):
        read(path)


# stimulus templates


@pytest.mark.parametrize("ordered", [True, False])
def test_an_index_series_shows_images_of_its_template(tmp_path: Path, ordered: bool) -> None:
    file = new_file()
    nwb_files.add_fluorescence(file, DFF)
    template = nwb_files.add_images(file, IMAGES, ordered=ordered)
    nwb_files.add_images(file, IMAGES[:2] // 2, name="other")
    nwb_files.add_index_series(file, SHOWN.astype(np.uint32), ONSET, template)
    path = written(file, tmp_path / "a.nwb")
    assert_responses(read(path), means((0.05, 0.55)))
    stimuli = images(path)
    np.testing.assert_array_equal(stimuli.read(stimuli.ids), IMAGES)  # scene10 is after scene9
    again = pickle.loads(pickle.dumps(stimuli))
    np.testing.assert_array_equal(again.read(np.array([10, 2])), IMAGES[[10, 2]])
    assert images(path, images="other").ids.tolist() == [0, 1]


@pytest.mark.parametrize("axes", ["row column", "column row"])
def test_a_template_may_be_one_array(tmp_path: Path, axes: Any) -> None:
    file = new_file()
    nwb_files.add_image_stack(file, IMAGES if axes == "row column" else IMAGES.swapaxes(1, 2))
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN})
    stimuli = images(written(file, tmp_path / "a.nwb"), image_axes=axes)
    assert stimuli.image_shape == (6, 8)
    np.testing.assert_array_equal(stimuli.read(stimuli.ids), IMAGES)


# what was not recorded


def test_windows_beyond_the_recording_are_left_out(tmp_path: Path) -> None:
    file, last = new_file(), ONSET[-3] + 0.5
    nwb_files.add_fluorescence(file, DFF[: int(RATE * last)])
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN})
    file.add_invalid_time_interval(start_time=ONSET[4], stop_time=ONSET[4] + 0.1)
    recording = read(written(file, tmp_path / "a.nwb"), SplitSettings(min_repeats=3))
    _, remark = recording.remarks
    assert "4 of 21 presentations were left out" in remark
    n_test = np.isfinite(recording.test_responses[:, :, 0]).sum()
    assert len(recording.image_ids) + n_test == 17


# refusals


def _spoilt(fault: str, path: Path) -> Path:
    """A file with a fault."""
    file, shown = new_file(), SHOWN
    if fault == "no responses":
        pass
    elif fault == "turned":
        nwb_files.add_fluorescence(file, DFF.T, n_rois=4)
    elif fault == "times":
        nwb_files.add_fluorescence(file, DFF, timestamps=np.zeros(len(DFF)))
    elif fault == "no spikes":
        file.add_unit_column("quality", "quality")
        file.add_unit(quality="good")
    else:
        nwb_files.add_fluorescence(file, DFF)
    if fault == "two series":
        file.add_unit(spike_times=[1.0, 2.0])
    if fault == "two tables":
        nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN}, name="again")
    if fault == "single images":
        shown = np.arange(len(SHOWN))
    if fault == "fractions":
        shown = SHOWN / 2
    if fault == "names":
        shown = np.array([f"no{i}" for i in SHOWN], dtype=object)
        nwb_files.add_images(file, IMAGES)
    if fault == "sizes":
        nwb_files.add_images(file, [IMAGES[0], IMAGES[1].T])
    if fault == "colour":
        nwb_files.add_image_stack(file, np.zeros((3, 4, 4, 3)))
    if fault != "no table":
        nwb_files.add_presentations(file, ONSET, {"image_index": shown})
    return written(file, path)


@pytest.mark.parametrize(
    ("fault", "named", "message"),
    [
        ("no responses", {}, r"holds no RoiResponseSeries or units"),
        ("two series", {}, r"holds RoiResponseSeries or units: ophys/DfOverF/dff, units; 2 of"),
        ("", {"responses": "spikes"}, r"0 are named spikes: set recording\.nwb\.responses"),
        ("turned", {}, r"shape \(4, \d+\), but 4 regions of interest: its axes are \(roi, frame\)"),
        ("times", {}, r"timestamps that do not increase"),
        ("no spikes", {}, r"units of .* have no spike_times \(they have quality\)"),
        ("no table", {}, r"holds no tables of intervals or IndexSeries"),
        ("two tables", {}, r"again, natural_images; 2 of them are: set recording\.nwb\.stimulus"),
        ("", {"tier": "set"}, r"no column set \(it has .*set recording\.nwb\.tier to one"),
        ("fractions", {}, r"tells images by fractions, such as \d\.5"),
        ("names", {}, r"names 12 images that scenes does not hold, such as 'no0'"),
        ("single images", {}, r"0 of 21 images were shown at least 4 times \(the most is 1\)"),
        ("", {"window": (0.05, 0.06)}, r"no frame in some windows .* 0\.01 s, a frame 0\.05 s\)"),
        ("", {"window": (900, 901)}, r"none of 21 presentations has a valid window \[900"),
    ],
)
def test_faults_are_refused_in_one_line(
    tmp_path: Path, fault: str, named: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as refused:
        read(_spoilt(fault, tmp_path / "a.nwb"), **named)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fault", "named", "message"),
    [
        ("", {}, r"holds no stimulus template: name the images in stimuli\.path"),
        ("sizes", {}, r"holds images of 2 sizes \(\[\(6, 8\), \(8, 6\)\]\)"),
        ("colour", {}, r"images of shape \(4, 4, 3\) .*only grey ones"),
        ("sizes", {"images": "film"}, r"stimulus templates: .*0 are named film"),
    ],
)
def test_images_that_cannot_be_used_are_refused(
    tmp_path: Path, fault: str, named: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        images(_spoilt(fault, tmp_path / "a.nwb"), **named)


def test_files_that_are_no_nwb_are_named(tmp_path: Path) -> None:
    import h5py

    foreign = tmp_path / "foreign.nwb"
    with h5py.File(foreign, "w") as file:
        file["responses"] = np.ones(3)
    with pytest.raises(UserError, match=r"foreign\.nwb cannot be read as an NWB file"):
        read(foreign)
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    with pytest.raises(UserError, match=r"a\.npz is a zip archive, not an NWB file"):
        read(tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"is no file: name an \.nwb file"):
        read(tmp_path)
    (tmp_path / "text.nwb").write_text("nothing")
    with pytest.raises(UserError, match=r"text\.nwb cannot be read as an NWB file"):
        read(tmp_path / "text.nwb")


def test_windows_must_end_after_they_begin() -> None:
    with pytest.raises(ValueError, match="the window must end after it begins"):
        NwbSettings(window=(0.5, 0.5))


def test_without_pynwb_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _spoilt("", tmp_path / "a.nwb")
    monkeypatch.setitem(__import__("sys").modules, "pynwb", None)
    with pytest.raises(UserError, match=r"pip install 'vitv1\[nwb\]'"):
        read(path)
