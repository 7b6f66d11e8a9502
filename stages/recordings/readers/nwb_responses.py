"""Responses in windows of time: means of fluorescence, counts of spikes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.guards.limit import NUMBER, check_size
from stages.recordings.readers.nwb_file import place_of, stored

#: Numbers of a series that are read at a time.
_AT_A_TIME = 1 << 23


def times_of(series: Any, n: int, where: str) -> NDArray[np.float64]:
    """Times of the n samples of a time series, in seconds.

    Raises
    ------
    UserError
        They do not increase, there are more or fewer, or too many.
    """
    check_size(n * 8, f"times of {where}")
    if series.timestamps is None:
        return np.asarray(series.starting_time + np.arange(n) / series.rate, dtype=np.float64)
    times = stored(series.timestamps, f"timestamps of {where}").astype(np.float64)
    if len(times) != n:
        raise UserError(f"{where} has {len(times)} timestamps for {n} samples: check the file")
    if not (np.diff(times) > 0).all():
        raise UserError(f"{where} has timestamps that do not increase: check the file")
    return times


def mean_in_windows(
    series: Any, starts: NDArray[np.float64], stops: NDArray[np.float64], path: Path
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Mean of each region's signal in [start, stop), and which windows were recorded.

    The series is read in parts, once.

    Parameters
    ----------
    series : RoiResponseSeries
        Of shape (n_frames, n_rois).
    starts, stops : array of shape (n_trials,)
        In seconds.

    Returns
    -------
    responses : array of shape (n_trials, n_rois)
        NaN where a frame is NaN.
    recorded : array of shape (n_trials,)

    Raises
    ------
    UserError
        Another shape, as of a series that is stored the other way round; windows without a frame.
    """
    where, n_rois = f"{place_of(series)} of {path}", len(series.rois.data)
    shape = tuple(series.data.shape)
    if len(shape) == 1 and n_rois == 1:
        shape = (*shape, 1)
    if len(shape) != 2 or shape[1] != n_rois:
        turned = ": its axes are (roi, frame), not (frame, roi)" if n_rois in shape else ""
        raise UserError(
            f"{where} has shape {shape}, but {n_rois} regions of interest{turned}: check the file"
        )
    times = times_of(series, shape[0], where)
    frame = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    recorded = (starts >= times[0]) & (stops <= times[-1] + frame)
    first, last = np.searchsorted(times, starts), np.searchsorted(times, stops)
    if (recorded & (first >= last)).any():
        raise UserError(
            f"{where} has no frame in some windows (they last {stops[0] - starts[0]:.3g} s, a "
            f"frame {frame:.3g} s): widen recording.nwb.window"
        )
    check_size(len(starts) * n_rois * (NUMBER + 8), f"responses of {path}")
    total = np.zeros((len(starts), n_rois))
    step = max(1, _AT_A_TIME // n_rois)
    for begin in range(0, shape[0], step):
        trials = np.flatnonzero(recorded & (first < begin + step) & (last > begin))
        if not len(trials):
            continue
        part = np.asarray(series.data[begin : begin + step], dtype=np.float64).reshape(-1, n_rois)
        for trial in trials:
            inside = slice(max(first[trial] - begin, 0), last[trial] - begin)
            total[trial] += part[inside].sum(axis=0)
    mean = total / np.maximum(last - first, 1)[:, None]
    return (mean * series.conversion + series.offset).astype(np.float32), recorded


def spikes_in_windows(
    units: Any, starts: NDArray[np.float64], stops: NDArray[np.float64], path: Path
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Number of each unit's spikes in [start, stop), and which windows were recorded.

    A window was recorded where any unit was observed; without intervals of observation, where it
    lies within those between the first and the last spike of all units.

    Parameters
    ----------
    units : Units
        With a column `spike_times`, and perhaps `obs_intervals`.
    starts, stops : array of shape (n_trials,)
        In seconds.

    Returns
    -------
    responses : array of shape (n_trials, n_units)
        NaN where the unit was not observed.
    recorded : array of shape (n_trials,)

    Raises
    ------
    UserError
        No spike times.
    """
    if "spike_times" not in units.colnames:
        raise UserError(
            f"units of {path} have no spike_times (they have {', '.join(units.colnames)}): set "
            "recording.nwb.responses to what holds the responses"
        )
    what = f"spike_times of {path}"
    ends = stored(units["spike_times"].data, what).astype(np.int64)
    spikes = stored(units["spike_times"].target.data, what).astype(np.float64)
    check_size(len(starts) * len(ends) * NUMBER, f"responses of {path}")
    responses = np.empty((len(starts), len(ends)), dtype=np.float32)
    observed = "obs_intervals" in units.colnames
    for unit, (begin, end) in enumerate(zip(np.r_[0, ends[:-1]], ends, strict=True)):
        own = np.sort(spikes[begin:end])
        responses[:, unit] = np.searchsorted(own, stops) - np.searchsorted(own, starts)
        if observed:
            intervals = np.asarray(units["obs_intervals"][unit]).reshape(-1, 2)
            within = (starts[:, None] >= intervals[:, 0]) & (stops[:, None] <= intervals[:, 1])
            responses[~within.any(axis=1), unit] = np.nan
    if observed:
        return responses, np.asarray(~np.isnan(responses).all(axis=1))
    if not len(spikes):
        raise UserError(f"{what} are empty: check the file")
    return responses, np.asarray((starts >= spikes.min()) & (stops <= spikes.max()))
