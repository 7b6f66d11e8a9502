"""The command `check`, and a newcomer's first run: two `.npy` files and eight lines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from support.recording_files import write_minimodel, write_sensorium

from pipeline.cli.main import main

EXPERIMENT = """[recording]
format = "arrays"
name = "mine"
path = "mine"
[backbone]
name = "vit_small_patch16_dinov3"
weights = "random"
arguments = { depth = 2, embed_dim = 24, num_heads = 3 }
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    Path("mine").mkdir()
    np.save("mine/images.npy", rng.integers(0, 256, (24, 20, 30), dtype=np.uint8))
    rates = rng.gamma(2, 2, (24, 1, 4))
    responses = rng.poisson(rates, (24, 5, 4)).astype(float)
    responses[0, 3:] = np.nan
    np.save("mine/responses.npy", responses)
    Path("mine.toml").write_text(EXPERIMENT)
    return tmp_path


def test_two_files_and_eight_lines_give_feve_per_block(
    mine: Path, no_figures: None, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("mine/area.npy", np.array(["V1", "V1", "LM", "../up"]))
    settings = ("--set", 'recording.neurons={ area = ["V1", "../up"] }', "--set", "run.workers=1")
    assert len(EXPERIMENT.splitlines()) <= 8
    assert main(["run", "mine.toml", "--set", 'run.device="cpu"', *settings]) == 0
    told = capsys.readouterr().err
    assert "note: images of 20 x 30 pixels are stretched to 64 x 128" in told
    summary = pd.read_csv("runs/mine/results/summary.csv")
    assert set(summary["block"]) == {0, 1} and (summary["n_neurons"] == 3).all()
    neurons = pd.read_parquet("runs/mine/results/neurons.parquet")
    assert neurons["area"].tolist() == ["V1", "V1", "../up"] * len(summary)


def test_check_says_what_was_understood(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "mine.toml", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    images, recording = told["understood"]["images"], told["understood"]["recording mine"]
    assert images["number"] == 24 and images["size"] == "20 x 30" and images["dtype"] == "uint8"
    assert recording["neurons"] == 4 and recording["missing responses"].startswith("0 of")
    assert recording["repeats of a test image"] == "fewest 5, median 5, most 5"
    assert any("split by image" in doubt for doubt in told["doubts"])
    assert Path(told["figure"]) == Path("runs/mine/figures/stimuli.png")
    assert Path(told["figure"]).read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("kind", ["arrays", "minimodel", "sensorium", "images"])
def test_data_files_are_recognised(
    mine: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path("mine")
    if kind == "minimodel":
        path = write_minimodel(Path("release")).recording
    elif kind == "sensorium":
        path = write_sensorium(Path("static"))
    elif kind == "images":
        path = Path("mine/images.npy")
    assert main(["check", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert ("images" in told["understood"]) == (kind != "minimodel")
    assert any("recording" in part for part in told["understood"]) == (kind != "images")


def test_a_default_crop_and_doubts_are_told(mine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = write_minimodel(Path("release"), shape=(66, 160))
    Path("fx.toml").write_text(
        f'[recording]\nformat = "minimodel"\nname = "FX10"\npath = "{files.recording}"\n'
        f'[stimuli]\npath = "{files.images}"\n'
    )
    assert main(["check", "fx.toml", "--json"]) == 0
    doubts = json.loads(capsys.readouterr().out)["doubts"]
    assert any("columns 0 to 132 of 160 are used, the default" in doubt for doubt in doubts)
    bright = 255 - np.random.default_rng(0).gamma(1, 20, (24, 20, 30)).clip(0, 255)
    np.save("mine/images.npy", bright)
    np.save("mine/image.npy", np.arange(1, 24))
    np.save("mine/responses.npy", np.load("mine/responses.npy")[1:])
    assert main(["check", "mine.toml", "--json"]) == 0
    doubts = json.loads(capsys.readouterr().out)["doubts"]
    assert any("negatives of photographs" in doubt for doubt in doubts)


def test_what_is_no_data_is_refused_and_nothing_is_written(
    mine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("notes.txt").write_text("hello")
    for name in ("notes.txt", "absent.npz"):
        assert main(["check", name]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not Path("runs").exists()
