"""Reports of made-up tables."""

import numpy as np
import pytest

from pipeline.report.figures.draw import FIGURES, Tables, draw_figures, wanted_figures
from pipeline.report.key import REPORT
from pipeline.report.page import write_report
from stages.readouts.readout import Readouts
from stages.readouts.saved import SavedPredictions

from .tables import curves_of, resolution_of, summary_of


def made_up_readouts(n, *, grid=(4, 8)):
    """Readouts of random maps."""
    rng = np.random.default_rng(0)
    sides = {"row_weights": grid[0], "column_weights": grid[1], "channel_weights": 3}
    return Readouts(
        **{name: rng.random((n, size), np.float32) for name, size in sides.items()},
        bias=np.zeros(n, np.float32), scale=np.ones(n, np.float32),
    )  # fmt: skip


def make_report(run, neurons, *, n_test=50, drawn=frozenset(FIGURES)):
    """Figures (coarse, to save time) and report of made-up tables in a folder.

    Of figures only those that are to be `drawn`: they take most of the time.
    """
    rng, n = np.random.default_rng(0), neurons["neuron"].nunique()
    responses = rng.random((n_test, n), np.float32)
    saved = SavedPredictions(np.arange(n_test), responses / 2 + 0.1, responses)
    tables = Tables(run, neurons, summary_of(neurons), curves_of(neurons), resolution_of(neurons))
    run.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("figures.draw", "stored"):
            patch.setattr(
                f"pipeline.report.{module}.saved_readouts", lambda *_: made_up_readouts(n)
            )
        patch.setattr("pipeline.report.stored.saved_predictions", lambda *_: saved)
        patch.setattr("pipeline.report.figures.style.DPI", 60)
        patch.setattr(
            "pipeline.report.figures.draw.wanted_figures",
            lambda of: [(name, draw) for name, draw in wanted_figures(of) if name in drawn],
        )
        figures = draw_figures(tables)
        assert {path.stem for path in figures} <= set(FIGURES)
        write_report(tables, figures, {"settings": {"run": {"seed": 0}}}, key="ab12")
    return run / REPORT
