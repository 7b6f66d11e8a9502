"""A cache that is replaced while a fit runs: the fit fails or is right, and so is the next one."""

import pytest
from benchmarks.trust.replaced_caches import WAYS, replaces
from support.noise_runs import local, write_noise_experiment

from cache import open_cache
from pipeline.cli.main import main
from stages.readouts import READOUTS

pytestmark = pytest.mark.usefixtures("no_figures")


def test_no_wrong_number_is_saved(tmp_path):
    counts = replaces(tmp_path, len(WAYS), seed=0)
    assert counts["fits"] == len(WAYS) and counts["told"]
    assert counts["wrong numbers"] == counts["not rerun"] == 0


def test_a_fit_is_told_in_one_line_and_saves_nothing(tmp_path, monkeypatch, capsys):
    experiment = write_noise_experiment(tmp_path / "this")
    store, other = local(experiment), local(write_noise_experiment(tmp_path / "other", seed=1))

    def replaced(path, *, key=None):
        """The other cache comes when the fit opens this one again."""
        if key is not None and other.exists():
            store.rename(tmp_path / "away.zarr")
            other.rename(store)
        return open_cache(path, key=key)

    monkeypatch.setattr("stages.tokens.cached.open_cache", replaced)
    arguments = ["fit", str(experiment), "--set=readout.blocks=[4]", '--set=readout.tokens=["cls"]']
    assert main([*arguments, "--quiet"]) == 1
    told, *more = capsys.readouterr().err.strip().splitlines()
    assert "failed: " in told and "holds other tokens than before" in told and "run again" in told
    assert len(more) == 1 and not (tmp_path / "this/runs" / READOUTS).exists()
