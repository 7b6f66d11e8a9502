"""Recordings that cannot be used, through `vitv1 run`: one line, exit code 2, nothing written."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from support.tiny import write_experiment

from pipeline.cli.main import main


def withheld(folder: Path) -> str:
    tiers = np.load(folder / "mouse/meta/trials/tiers.npy")
    for trial in np.flatnonzero(tiers == "test"):
        response = folder / f"mouse/data/responses/{trial}.npy"
        np.save(response, np.zeros_like(np.load(response)))
    return 'format = "sensorium"\npath = "mouse"'


def videos(folder: Path) -> str:
    (folder / "mouse/data/images").rename(folder / "mouse/data/videos")
    return 'format = "sensorium"\npath = "mouse"'


def no_nwb(folder: Path) -> str:
    with h5py.File(folder / "mouse.nwb", "w") as file:
        file["responses"] = np.ones(3)
    return 'format = "nwb"\npath = "mouse.nwb"'


def pickled(folder: Path) -> str:
    (folder / "monkey.pkl").write_bytes(pickle.dumps({"responses": np.ones(3)}))
    return 'format = "cadena2019"\npath = "monkey.pkl"'


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (withheld, "withheld"),
        (videos, "is a recording of videos (data/videos)"),
        (no_nwb, "cannot be read as an NWB file"),
        (pickled, "with consent only"),
    ],
)
def test_what_cannot_be_used_ends_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: Any, told: str
) -> None:
    path = write_experiment(tmp_path)
    text = path.read_text()
    assert 'format = "sensorium"\npath = "mouse"' in text
    path.write_text(text.replace('format = "sensorium"\npath = "mouse"', spoil(tmp_path)))
    assert main(["run", str(path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert told in line and not (tmp_path / "runs").exists()


def test_a_recording_without_repeats_is_scored_by_its_correlation(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_experiment(tmp_path, n_train=24, n_validation=6)
    withheld(tmp_path)
    sets = ["recording.sensorium.score_on='validation'", "readout.blocks=[1]"]
    assert main(["run", str(path), *(word for each in sets for word in ("--set", each))]) == 0
    (remark,) = json.loads((tmp_path / "runs/provenance.json").read_text())["remarks"]
    assert "FEVE are NaN" in remark and f"warning: {remark}" in capsys.readouterr().err
    neurons = pd.read_parquet(tmp_path / "runs/results/neurons.parquet")
    assert neurons["feve"].isna().all() and np.isfinite(neurons["test_correlation"]).all()
    assert remark in (tmp_path / "runs/report.html").read_text()
