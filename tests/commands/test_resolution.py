"""Whole commands on planted fine neurons: backbones of several kinds, and one table of them."""

import pandas as pd
import pytest

from pipeline.cli.main import main
from pipeline.report.answer import answer
from pipeline.results.tables import RESOLUTION, read_neurons, read_resolution

TEXT = """
[recording]
format = "synthetic"
name = "fine"
synthetic = {{ n_training = 120, n_validation = 40, n_test = 30, n_neurons = 8, gabor = {{}} }}
[stimuli]
input_size = [32, 64]
[[backbone]]
name = "vit_small_patch16_dinov3"
weights = "random"
arguments = {{ depth = 1, embed_dim = 48, num_heads = 3 }}
stride = [16, 8]
[[backbone]]
name = "test_convnext"
weights = "random"
[readout]
tokens = ["patch"]
als = {{ max_components = 8 }}
[run]
output = "{output}"
device = "cpu"
workers = 1
"""


@pytest.fixture
def file(tmp_path, no_figures):
    path = tmp_path / "fine.toml"
    path.write_text(TEXT.format(output=tmp_path / "runs"))
    return path


def test_several_ways_to_finer_tokens_stand_in_one_table(file):
    run = file.parent / "runs"
    assert main(["run", str(file), "--quiet"]) == 0
    table, neurons = read_resolution(run), read_neurons(run)
    told = list(zip(table["model"].str.split("+").str[-1], table["pixels_per_token"], strict=True))
    convnext = [("test_convnext", pixels) for pixels in (4, 8, 16, 32)]
    assert told == [("stride16", 16), ("stride8", 8), *convnext]
    # All see the same neurons.
    responses = neurons.groupby(["model", "block"])["fev"].apply(tuple)
    assert responses.nunique() == 1
    assert answer(neurons, table)[0].startswith("Finer tokens")
    # A table that is gone is made again; one that no longer applies goes.
    (run / RESOLUTION).unlink()
    assert main(["run", str(file), "--quiet"]) == 0
    pd.testing.assert_frame_equal(read_resolution(run), table)
    assert main(["run", str(file), "--quiet", "--set", "backbone.0.stride=16"]) == 0
    assert not (run / RESOLUTION).exists() and read_resolution(run).empty
