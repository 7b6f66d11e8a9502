"""NWB files as laboratories write them with pynwb, for tests."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pynwb import NWBHDF5IO, NWBFile
from pynwb.base import ImageReferences, Images
from pynwb.device import Device
from pynwb.epoch import TimeIntervals
from pynwb.image import GrayscaleImage, ImageSeries, IndexSeries
from pynwb.ophys import (
    DfOverF,
    ImageSegmentation,
    ImagingPlane,
    OpticalChannel,
    RoiResponseSeries,
)

from stages.recordings import FORMATS, NwbSettings, Recording, RecordingSettings, SplitSettings
from stages.stimuli import Stimuli
from support.recording_files import read_file

#: Seconds from one onset to the next.
PERIOD = 0.75


def new_file() -> NWBFile:
    """An NWB file without data."""
    return NWBFile(
        session_description="natural images",
        identifier="mouse",
        session_start_time=datetime(2024, 1, 1, tzinfo=UTC),
    )


def shown_images(n_images: int = 12, n_repeated: int = 3, repeats: int = 4) -> NDArray[np.int64]:
    """Image of each presentation: the first few repeated, the others once, in random order."""
    order = [*range(n_repeated, n_images), *list(range(n_repeated)) * repeats]
    return np.random.default_rng(0).permutation(order)


#: Frames per second.
RATE = 20.0
SHOWN = shown_images()
ONSET = 1.003 + PERIOD * np.arange(len(SHOWN))
IMAGES = np.random.default_rng(2).integers(0, 256, (12, 6, 8), dtype=np.uint8)
DFF = np.random.default_rng(1).normal(size=(int(RATE * (ONSET[-1] + 3)), 4)).clip(0)


def add_fluorescence(
    file: NWBFile,
    data: NDArray[Any],
    *,
    name: str = "dff",
    rate: float | None = 20.0,
    timestamps: NDArray[np.float64] | None = None,
    n_rois: int | None = None,
) -> None:
    """dF/F of shape (frame, roi), with a plane segmentation whose ids begin at 100."""
    n_rois = data.shape[1] if n_rois is None else n_rois
    device = file.add_device(Device(name="microscope"))
    plane = ImagingPlane(
        name="plane",
        optical_channel=OpticalChannel(name="c", description="c", emission_lambda=500.0),
        description="V1",
        device=device,
        excitation_lambda=600.0,
        indicator="GCaMP6s",
        location="V1",
    )
    file.add_imaging_plane(plane)
    segmentation = ImageSegmentation()
    table = segmentation.create_plane_segmentation("rois", plane, name="segmentation")
    for roi in range(n_rois):
        table.add_roi(pixel_mask=[(roi, roi, 1.0)], id=100 + roi)
    module = file.create_processing_module("ophys", "processed")
    module.add(segmentation)
    region = table.create_roi_table_region("all", region=list(range(n_rois)))
    series = RoiResponseSeries(
        name=name,
        data=data,
        rois=region,
        unit="n.a.",
        timestamps=timestamps,
        rate=None if timestamps is not None else rate,
    )
    module.add(DfOverF(roi_response_series=series))


def add_presentations(
    file: NWBFile,
    onset: NDArray[np.float64],
    columns: dict[str, Iterable[Any]],
    *,
    name: str = "natural_images",
) -> None:
    """A table of intervals with a row per presentation, of 0.5 s."""
    table = TimeIntervals(name=name, description="presentations")
    for column in columns:
        table.add_column(name=column, description=column)
    for row, *values in zip(onset, *columns.values(), strict=True):
        table.add_row(
            start_time=row, stop_time=row + 0.5, **dict(zip(columns, values, strict=True))
        )
    file.add_time_intervals(table)


def add_images(
    file: NWBFile, pixels: Iterable[NDArray[Any]], *, name: str = "scenes", ordered: bool = True
) -> Images:
    """A stimulus template of single images, named as the Allen Institute's are."""
    images = [GrayscaleImage(name=f"scene{i}", data=each) for i, each in enumerate(pixels)]
    order = ImageReferences(name="order_of_images", data=images) if ordered else None
    container = Images(name=name, images=images, description="d", order_of_images=order)
    file.add_stimulus_template(container)
    return container


def add_image_stack(file: NWBFile, pixels: NDArray[Any], *, name: str = "stack") -> None:
    """A stimulus template that is one array."""
    file.add_stimulus_template(ImageSeries(name=name, data=pixels, unit="n.a.", rate=1.0))


def add_index_series(
    file: NWBFile, shown: NDArray[Any], onset: NDArray[np.float64], images: Images
) -> None:
    """Presentations as an IndexSeries of a template."""
    series = IndexSeries(
        name="scenes_stimulus", data=shown, indexed_images=images, unit="N/A", timestamps=onset
    )
    file.add_stimulus(series)


def written(file: NWBFile, path: Path) -> Path:
    """The file, written."""
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def read_nwb(path: Path, split: SplitSettings | None = None, **named: Any) -> Recording:
    """The recording of a file, by the settings of `[recording.nwb]`."""
    settings = {} if split is None else {"split": split}
    return read_file("nwb", path, nwb=NwbSettings(**named), **settings)


def nwb_images(path: Path, **named: Any) -> Stimuli:
    """The images of the file's own template."""
    return FORMATS["nwb"].own_images(
        RecordingSettings(format="nwb", name="mouse", path=path, nwb=NwbSettings(**named))
    )
