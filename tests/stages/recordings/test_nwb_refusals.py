"""Refusals of recordings in NWB files, and their words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from support import nwb_files
from support.nwb_files import DFF, IMAGES, ONSET, SHOWN, new_file, nwb_images, read_nwb, written

from cache import UserError
from stages.recordings import NwbSettings, reading_limit

pytestmark = pytest.mark.filterwarnings(
    "ignore:The linked table for DynamicTableRegion", "ignore:.*Data is oriented incorrectly"
)


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
        read_nwb(_spoilt(fault, tmp_path / "a.nwb"), **named)
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
        nwb_images(_spoilt(fault, tmp_path / "a.nwb"), **named)


def test_files_that_are_no_nwb_are_named(tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.nwb"
    with h5py.File(foreign, "w") as file:
        file["responses"] = np.ones(3)
    with pytest.raises(UserError, match=r"foreign\.nwb cannot be read as an NWB file"):
        read_nwb(foreign)
    np.savez(tmp_path / "a.npz", x=np.ones(3))
    with pytest.raises(UserError, match=r"a\.npz is a zip archive, not an NWB file"):
        read_nwb(tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"is no file: name an \.nwb file"):
        read_nwb(tmp_path)
    (tmp_path / "text.nwb").write_text("nothing")
    with pytest.raises(UserError, match=r"text\.nwb cannot be read as an NWB file"):
        read_nwb(tmp_path / "text.nwb")


@pytest.mark.parametrize("limit", [10**9, None])
def test_a_claim_of_many_frames_is_refused_before_it_is_read(tmp_path: Path, limit: Any) -> None:
    path = _spoilt("", tmp_path / "a.nwb")
    with h5py.File(path, "r+") as file:
        series = file["processing/ophys/DfOverF/dff"]
        attributes = dict(series["data"].attrs)
        del series["data"]
        empty = series.create_dataset("data", (10**13, 4), chunks=(1000, 4), dtype="f4")
        empty.attrs.update(attributes)
    with reading_limit(limit), pytest.raises(UserError, match=r"times of .* would take 80\.0 TB"):
        read_nwb(path)


def test_one_test_image_is_refused(tmp_path: Path) -> None:
    file = new_file()
    nwb_files.add_fluorescence(file, DFF)
    tiers = np.where(SHOWN == 1, "test", np.where(SHOWN < 5, "validation", "train")).astype(object)
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN, "tier": tiers})
    with pytest.raises(UserError, match=r"a\.nwb has one test image, 1, and FEVE"):
        read_nwb(written(file, tmp_path / "a.nwb"), tier="tier")


def test_an_empty_tier_is_refused(tmp_path: Path) -> None:
    file = new_file()
    nwb_files.add_fluorescence(file, DFF)
    tiers = np.full(len(SHOWN), "train", dtype=object)
    nwb_files.add_presentations(file, ONSET, {"image_index": SHOWN, "tier": tiers})
    with pytest.raises(UserError, match=r"tier has no trial of test \(it has train\)"):
        read_nwb(written(file, tmp_path / "a.nwb"), tier="tier")


def test_windows_must_end_after_they_begin() -> None:
    with pytest.raises(ValueError, match="the window must end after it begins"):
        NwbSettings(window=(0.5, 0.5))


def test_without_pynwb_the_remedy_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _spoilt("", tmp_path / "a.nwb")
    monkeypatch.setitem(__import__("sys").modules, "pynwb", None)
    with pytest.raises(UserError, match=r"pip install 'vitv1\[nwb\]'"):
        read_nwb(path)
