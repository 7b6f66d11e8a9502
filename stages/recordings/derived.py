"""Quantities made of a whole recording: a normalised copy, and its hash."""

from __future__ import annotations

import hashlib
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from cache import UserError, as_array
from stages.recordings.recording import Recording


def normalise(recording: Recording, scale: NDArray[np.float32]) -> Recording:
    """A copy whose responses, single-trial and repeated, are divided by a scale (n_neurons,).

    Raises
    ------
    UserError
        A scale of another shape.
    """
    scale = as_array(scale, "values of scale", ("neuron",)).astype(np.float32, copy=False)
    if scale.shape != (recording.n_neurons,):
        raise UserError(f"scale has shape {scale.shape}: one per neuron of {recording.name}")
    return replace(
        recording,
        responses=recording.responses / scale,
        test_responses=recording.test_responses / scale,
    )


def digest_recording(recording: Recording) -> str:
    """Hash of a recording's content: everything that a fit or its table depends on."""
    content = hashlib.sha256()
    compared = (each.name for each in fields(recording) if each.compare)
    for name, value in ((name, getattr(recording, name)) for name in compared):
        content.update(name.encode())
        if isinstance(value, np.ndarray):
            content.update(f"{value.shape} {value.dtype.str}".encode())
            content.update(np.ascontiguousarray(value).data)
        else:
            content.update(repr(value).encode())
    for name, value in sorted(recording.columns.items()):
        content.update(f"column {len(name)} {name} {value.dtype.str} {value.shape}".encode())
        content.update(np.ascontiguousarray(value).data)
    return content.hexdigest()
