"""The figure of scores beside FEVE, with the columns that a table has."""

import numpy as np
import pytest
from support.tables import neurons_table

from pipeline.report.figures.agreement import agreeing, rank_correlation, score_agreement


def test_every_score_is_drawn_and_ranked():
    rows = neurons_table(blocks=(4,), tokens=("patch",))
    assert rank_correlation(rows, "r2_er") == pytest.approx(1)
    figure = score_agreement(rows)
    lines = [
        line for line in figure.axes[0].lines if len(line.get_xdata()) == (rows.fev > 0.15).sum()
    ]
    assert len(lines) == 4
    np.testing.assert_allclose(lines[0].get_ydata() - lines[0].get_xdata(), 0.02)


def test_tables_of_earlier_versions_have_few():
    rows = neurons_table(blocks=(4,)).drop(columns=["cc_norm", "r2_er"])
    rows["single_trial_correlation"] = np.nan
    assert agreeing(rows) == ["test_correlation"]
    score_agreement(rows)
    score_agreement(rows.assign(fev=0.0))
    assert np.isnan(rank_correlation(rows.assign(fev=0.0), "test_correlation"))
