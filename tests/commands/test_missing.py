"""Missing and negative responses, from an experiment file to its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.recording_files import write_minimodel
from support.runs import only_variant

from pipeline.cli.main import main

EXPERIMENT = """
[recording]
format = "minimodel"
path = "FX10_nat60k_2023_05_16.npz"
name = "mouse"

[stimuli]
path = "nat60k_text16.mat"
input_size = [32, 64]

[backbone]
name = "vit_small_patch16_dinov3"
weights = "random"
arguments = {{ depth = 1, embed_dim = 48, num_heads = 3 }}

[readout]
tokens = ["patch"]
{readout}

[run]
output = "{output}"
"""


def written(folder: Path, *, readout: str = "", **changes: Any) -> Path:
    write_minimodel(folder, n_trials=40, n_images=50, changes=changes)
    path = folder / "mouse.toml"
    path.write_text(EXPERIMENT.format(readout=readout, output=folder / "runs"))
    return path


def test_a_neuron_that_is_missing_everywhere_is_nan_in_the_table(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    single = draw.gamma(1.0, 2.0, (5, 40)).astype(np.float32)
    repeats = draw.gamma(1.0, 2.0, (4, 3, 5)).astype(np.float32)
    single[2] = np.nan
    single[3, draw.permutation(40)[:12]] = np.nan
    repeats[0, :, 3] = repeats[1, 2, 3] = np.nan
    path = written(tmp_path, sp=single, ss_all=repeats)
    assert main(["extract", str(path), "--quiet"]) == 0
    with pytest.warns(UserWarning, match=r"1 of 5 neurons have no response .* trial \(2\)"):
        assert main(["fit", str(path), "--quiet"]) == 0
    table = pd.read_parquet(tmp_path / "runs" / "results" / "neurons.parquet")
    scores = table.set_index("neuron")[["fev", "feve", "val_varexp", "test_correlation"]]
    assert scores.loc[2].isna().all() and np.isfinite(scores.loc[[0, 1, 3, 4], "val_varexp"]).all()
    variant = only_variant(path)
    assert variant.sizes[0].incomplete


def test_negative_responses_are_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = np.random.default_rng(0).standard_normal((5, 40)).astype(np.float32)
    path = written(tmp_path, sp=single)
    assert main(["extract", str(path)]) == 2
    error = capsys.readouterr().err
    assert "recording mouse: 5 of 5 neurons have negative responses" in error
    assert 'readout.als.output = "linear"' in error and not (tmp_path / "runs").exists()
    path = written(tmp_path, sp=single, readout='als = {output = "linear"}')
    assert main(["extract", str(path), "--quiet"]) == 0
    assert main(["fit", str(path), "--quiet"]) == 0
