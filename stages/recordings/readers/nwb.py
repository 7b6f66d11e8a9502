"""Recordings in NWB files: fluorescence or spikes in a window after each image's onset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.array_settings import SplitSettings
from stages.recordings.readers.nwb_file import (
    one_of,
    opened,
    place_of,
    stored,
    template_names,
    template_stack,
)
from stages.recordings.readers.nwb_responses import mean_in_windows, spikes_in_windows, times_of
from stages.recordings.readers.stack import LoadedStack
from stages.recordings.recording import Recording, check_recording
from stages.recordings.recording_format import RecordingFormat, recording_path
from stages.recordings.split import split_by_image, tiers_of_file
from stages.recordings.tiers import TIERS, fields_of_tiers
from stages.stimuli.stimuli import Stimuli

if TYPE_CHECKING:
    from stages.recordings.reader_settings import NwbSettings
    from stages.recordings.settings import RecordingSettings


class NwbFormat(RecordingFormat):
    """Recordings in NWB files (Neurodata Without Borders), whose objects the settings name.

    Presentations are rows of a table of intervals with a column that tells the image, or the
    entries of an IndexSeries; blank screens, and presentations whose window was not recorded or is
    among the file's invalid times, are left out. The response is the mean of a RoiResponseSeries in
    the window, or the number of a unit's spikes there. It is missing where the series is NaN, or
    where the unit was not observed.

    Image ids are indices into the stimulus template, from 0.
    """

    def read(self, settings: RecordingSettings) -> Recording:
        """See `RecordingFormat.read`."""
        path, named = recording_path(settings), settings.nwb
        split = settings.split or SplitSettings()
        with opened(path) as file:
            onset, image, tiers = _presentations(file, named, path)
            starts, stops = onset + named.window[0], onset + named.window[1]
            valid = _valid(file, starts, stops)
            source = _responses(file, named, path)
            if hasattr(source, "rois"):
                responses, recorded = mean_in_windows(source, starts, stops, path)
                regions = stored(source.rois.data, f"regions of {path}")
                unit_ids = stored(source.rois.table.id.data, f"regions of {path}")[regions]
            else:
                responses, recorded = spikes_in_windows(source, starts, stops, path)
                unit_ids = stored(source.id.data, f"units of {path}")
        kept = recorded & valid
        if not kept.any():
            raise UserError(
                f"{path}: none of {len(kept)} presentations has a valid window [{named.window[0]}, "
                f"{named.window[1]}) s within the recording: check recording.nwb.window"
            )
        image, responses, lost = image[kept], responses[kept], int((~kept).sum())
        told: str | None
        if tiers is None:
            tiers, told = split_by_image(settings.name, image, split)
        else:
            tiers, told = tiers_of_file(settings.name, tiers[kept], image, split)
        used = np.isin(tiers, TIERS)
        remarks = [each for each in (told,) if each is not None]
        if lost:
            remarks.append(
                f"recording {settings.name}: {lost} of {len(kept)} presentations were left out, "
                "whose windows were not recorded, or not validly"
            )
        return check_recording(
            Recording(
                name=settings.name,
                neurons=np.arange(responses.shape[1], dtype=np.int64),
                unit_ids=unit_ids.astype(np.int64),
                remarks=tuple(remarks),
                **fields_of_tiers(image[used], responses[used], tiers[used], str(path)),
            )
        )

    def recognises(self, path: Path) -> bool:
        """Whether it is named as one."""
        return path.suffix.lower() == ".nwb"

    def images_path(self, settings: RecordingSettings) -> Path:
        """The recording's own path."""
        return recording_path(settings)

    def own_images(self, settings: RecordingSettings) -> Stimuli:
        """The images of the stimulus template; the id is the index."""
        path = recording_path(settings)
        return LoadedStack(_load_template, path, settings.nwb).stimuli(str(path))


def _load_template(path: Path, named: NwbSettings) -> NDArray[Any]:
    """Images of shape (n_images, row, column)."""
    with opened(path) as file:
        template = _template(file, named, path)
        if template is None:
            raise UserError(f"{path} holds no stimulus template: name the images in stimuli.path")
        return template_stack(template, rows_first=named.image_axes == "row column", path=path)


def _template(file: Any, named: NwbSettings, path: Path) -> Any:
    """The template that is named, that of the IndexSeries, or the only one; None without any."""
    if named.images is None:
        stimulus = _stimulus(file, named, path)
        own = getattr(stimulus, "indexed_images", None)
        own = getattr(stimulus, "indexed_timeseries", None) if own is None else own
        if own is not None:
            return own
    templates = list(file.stimulus_template.values())
    if not templates and named.images is None:
        return None
    return one_of(templates, named.images, "stimulus templates", "recording.nwb.images", path)


def _stimulus(file: Any, named: NwbSettings, path: Path) -> Any:
    """The table of presentations, or the IndexSeries; without a name the one with the column."""
    from pynwb.epoch import TimeIntervals
    from pynwb.image import IndexSeries

    kinds = TimeIntervals | IndexSeries
    found = [each for each in file.objects.values() if isinstance(each, kinds)]
    found = [each for each in found if each.name != "invalid_times"]
    if named.stimulus is None:
        fit = [each for each in found if named.image in getattr(each, "colnames", [named.image])]
        found = fit or found
    what = "tables of intervals or IndexSeries"
    return one_of(found, named.stimulus, what, "recording.nwb.stimulus", path)


def _responses(file: Any, named: NwbSettings, path: Path) -> Any:
    from pynwb.ophys import RoiResponseSeries

    found = [each for each in file.objects.values() if isinstance(each, RoiResponseSeries)]
    found += [file.units] if file.units is not None else []
    what = "RoiResponseSeries or units"
    return one_of(found, named.responses, what, "recording.nwb.responses", path)


def _presentations(
    file: Any, named: NwbSettings, path: Path
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.str_] | None]:
    """Onset (seconds), image id and tier of every presentation of an image, arrays of one shape."""
    stimulus = _stimulus(file, named, path)
    where = f"{place_of(stimulus)} of {path}"
    tiers = None
    if hasattr(stimulus, "colnames"):
        onset = stored(stimulus["start_time"].data, where).astype(np.float64)
        shown = _column(stimulus, named.image, "image", where)
        if named.tier is not None:
            tiers = _column(stimulus, named.tier, "tier", where).astype(np.str_)
    else:
        shown = stored(stimulus.data, where)
        onset = times_of(stimulus, len(shown), where)
    index = _indices(shown, lambda: _template(file, named, path), where, path)
    there = index >= 0
    return onset[there], index[there], None if tiers is None else tiers[there]


def _column(table: Any, name: str, setting: str, where: str) -> NDArray[Any]:
    if name not in table.colnames:
        raise UserError(
            f"{where} has no column {name} (it has {', '.join(table.colnames)}): set "
            f"recording.nwb.{setting} to one"
        )
    return stored(table[name].data, f"{name} of {where}")


def _indices(shown: NDArray[Any], template: Any, where: str, path: Path) -> NDArray[np.int64]:
    """Index of the image of each presentation, -1 for a blank."""
    if shown.dtype.kind in "OSU":
        texts = np.array(
            [each.decode() if isinstance(each, bytes) else str(each) for each in shown]
        )
        try:
            shown = texts.astype(np.float64)  # the Allen Institute writes numbers as texts
        except ValueError:
            return _by_name(texts, template(), where, path)
    if shown.ndim != 1 or shown.dtype.kind not in "uif":
        raise UserError(
            f"{where} tells images by {shown.dtype} of shape {shown.shape}: a column of indices or "
            "names is needed; set recording.nwb.image"
        )
    if shown.dtype.kind == "u":
        # A blank, -1, as some converters store it.
        shown = np.where(shown == np.iinfo(shown.dtype).max, -1, shown.astype(np.int64))
    whole = np.where(np.isnan(shown), -1, shown)
    if (whole != np.trunc(whole)).any():
        raise UserError(
            f"{where} tells images by fractions, such as {whole[whole != np.trunc(whole)][0]}: set "
            "recording.nwb.image to a column of indices"
        )
    return np.maximum(whole, -1).astype(np.int64)


def _by_name(texts: NDArray[np.str_], template: Any, where: str, path: Path) -> NDArray[np.int64]:
    names = None
    if hasattr(template, "images"):
        names = template_names(template, path) or list(template.images)
    if names is None:
        raise UserError(
            f"{where} tells images by name, such as {texts[0]!r}, and no template has names: set "
            "recording.nwb.images, or recording.nwb.image to a column of indices"
        )
    position = {name: index for index, name in enumerate(names)}
    unknown = sorted(set(texts.tolist()) - set(position) - {"", "nan"})
    if unknown:
        raise UserError(
            f"{where} names {len(unknown)} images that {place_of(template)} does not hold, such as "
            f"{unknown[0]!r}: correct recording.nwb.image or recording.nwb.images"
        )
    return np.array([position.get(text, -1) for text in texts], dtype=np.int64)


def _valid(file: Any, starts: NDArray[np.float64], stops: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which windows do not touch the file's invalid times."""
    valid = np.ones(len(starts), dtype=bool)
    if file.invalid_times is not None:
        begin = np.asarray(file.invalid_times["start_time"].data[:])
        end = np.asarray(file.invalid_times["stop_time"].data[:])
        for first, last in zip(begin, end, strict=True):
            valid &= (stops <= first) | (starts >= last)
    return valid
