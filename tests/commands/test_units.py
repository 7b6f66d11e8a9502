"""Units of a whole run: frozen, tuned and CNN results of responses in another one."""

import numpy as np
import pytest
import zarr
from support.earlier import earlier_run

from pipeline.cli.main import main
from pipeline.results.tables import read_neurons

pytestmark = pytest.mark.usefixtures("no_figures")

UNIT = 2.0**-10


def test_every_stage_gives_the_same_scores_in_another_unit(tmp_path):
    """A power of two, in which no bit is rounded; the earlier run's cache serves both."""
    outputs = []
    for name, unit in (("usual", 1.0), ("other", UNIT)):
        run = earlier_run(tmp_path / name)
        for path in (run / "mouse/data/responses").iterdir():
            np.save(path, np.load(path) * unit)
        fresh = ["--set", f"run.output={run / 'fresh'}"]
        cache = ["--set", f"cache.path={run / 'output/features.zarr'}"]
        assert main(["run", str(run / "experiment.toml"), "--quiet", *fresh, *cache]) == 0
        outputs.append(run / "fresh")
    usual, other = (read_neurons(output) for output in outputs)
    assert set(usual["tuning"]) == {"frozen", "last0", "last1", "full"}
    assert set(usual["model"]) >= {"cnn_fullmodel", "cnn_minimodel"}
    assert set(usual["solver"]) >= {"als", "adamw"}
    for score in ("fev", "feve", "feve_se", "val_varexp", "test_correlation"):
        np.testing.assert_array_equal(other[score], usual[score], err_msg=score)
    usual, other = (zarr.open_group(o / "results/predictions.zarr", mode="r") for o in outputs)
    for name in (each for each in usual if not each.startswith("measured-")):
        expected = usual[name]["test"][:] * np.float32(UNIT)
        np.testing.assert_array_equal(other[name]["test"][:], expected)
