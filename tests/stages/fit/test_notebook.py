"""Fits of a recording without an experiment file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.small_extraction import Extraction

from cache import UserError
from stages.fit import fit_recording, mean_feve
from stages.recordings import Recording


def test_a_recording_is_fitted_without_a_file(tmp_path: Path) -> None:
    Extraction().run(tmp_path / "tokens.zarr")
    responses = np.random.default_rng(0).gamma(1, 2, (32, 5, 4))
    recording = Recording.from_arrays(responses, name="mine", columns={"area": list("abcd")})
    fits = fit_recording(recording, tmp_path / "tokens.zarr", tokens="cls")
    assert list(fits) == [0, 1] and list(
        fit_recording(recording, tmp_path / "tokens.zarr", blocks=[-1])
    ) == [1]
    columns = fits[1].columns
    valid = columns["fev"] > 0.15
    assert mean_feve(fits[1]) == pytest.approx(columns["feve"][valid].mean(), nan_ok=True)
    assert columns["area"].tolist() == list("abcd") and fits[0].condition.input_size == "32x32"
    for wrong in ({"tokens": "pixels"}, {"solver": "magic"}, {"blocks": "some"}, {"blocks": [7]}):
        with pytest.raises(UserError):
            fit_recording(recording, tmp_path / "tokens.zarr", **wrong)
    more = Recording.from_arrays(np.concatenate([responses] * 2))
    with pytest.raises(UserError, match="32"):
        fit_recording(more, tmp_path / "tokens.zarr")
