"""Fine-tuning from the cache where the cache is behind a URL."""

import shutil

import pandas as pd
from support.servers import nginx
from support.tuning_runs import flags

from pipeline.cli.main import main
from pipeline.experiment import load_experiment


def test_a_run_from_a_url_gives_the_same_tables(tuned_run, tmp_path, no_figures):
    file = load_experiment(tuned_run)
    (tmp_path / "web").mkdir()
    with nginx(tmp_path / "web") as server:
        shutil.copytree(file.output / "features.zarr", server.files / "features.zarr")
        options = [
            f"cache.path={server.url('features.zarr')}",
            f"run.output={tmp_path / 'run'}",
            "finetune.last=[0, 1]",
        ]
        assert main(["run", str(tuned_run), "--quiet", *flags(*options)]) == 0
    expected, found = (
        pd.read_parquet(output / "results/neurons.parquet")
        for output in (file.output, tmp_path / "run")
    )
    expected = expected[expected["tuning"] != "full"].reset_index(drop=True)
    pd.testing.assert_frame_equal(found, expected)
