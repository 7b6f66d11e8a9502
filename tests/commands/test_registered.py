"""A recording format and a solver that are registered from outside, in a whole run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.tiny import EXPERIMENT

from pipeline.cli.main import main
from stages.costs import Cost, Portion
from stages.readouts import SOLVERS, FitSize, Readouts, Solver
from stages.recordings import FORMATS, Recording, RecordingFormat, RecordingSettings
from stages.stimuli import Stimuli, stimuli_from_array

pytestmark = pytest.mark.usefixtures("no_figures")


class ToyFormat(RecordingFormat):
    """One `.npz` with images and responses: image i on trial i, the last three shown twice."""

    def read(self, settings: RecordingSettings) -> Recording:
        responses = np.load(settings.path)["responses"].astype(np.float32)
        single = len(responses) - 3
        return Recording(
            name=settings.name,
            neurons=np.arange(responses.shape[1]),
            image_ids=np.arange(single),
            responses=responses[:single],
            validation=np.arange(single) % 4 == 0,
            test_image_ids=np.arange(single, len(responses)),
            test_responses=np.stack([responses[single:], responses[single:] + 1], axis=1),
        )

    def images_path(self, settings: RecordingSettings) -> Path | None:
        return settings.path

    def reads_images(self, path: Path) -> bool:
        return path.suffix == ".toy"

    def read_images(self, path: Path, *, allow_pickle: bool) -> Stimuli:
        return stimuli_from_array(np.load(path)["images"], source=str(path))


@dataclass(frozen=True)
class ToySettings:
    """Settings of the toy solver."""

    rate: float = 2.0


class ToySolver(Solver):
    """Every neuron has one rate, whatever it is shown."""

    settings = ToySettings

    def fit(
        self, data: Any, settings: ToySettings, *, progress: Callable[..., None] | None = None
    ) -> Readouts:
        _, n_rows, n_columns, n_channels = data.x_train.shape
        n_neurons = len(data.neurons)
        return Readouts(
            row_weights=np.ones((n_neurons, n_rows), np.float32),
            column_weights=np.ones((n_neurons, n_columns), np.float32),
            channel_weights=np.zeros((n_neurons, n_channels), np.float32),
            bias=np.full(n_neurons, settings.rate - 1, np.float32),
            scale=np.ones(n_neurons, np.float32),
        )

    def least_memory(self, size: FitSize, settings: ToySettings, *, divided: bool = False) -> int:
        return size.responses

    def cost(self, size: FitSize, settings: ToySettings, **_: Any) -> Cost:
        return Cost(phases=(Portion(1.0),))


def test_both_serve_a_whole_run(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(FORMATS, "toy", ToyFormat())
    monkeypatch.setitem(SOLVERS, "toy", ToySolver())
    draw = np.random.default_rng(0)
    with (tmp_path / "mouse.toy").open("wb") as file:
        np.savez(
            file,
            images=draw.integers(0, 256, (20, 16, 32), dtype=np.uint8),
            responses=draw.gamma(1.0, 2.0, (20, 4)),
        )
    text = EXPERIMENT.format(output=tmp_path / "runs").replace("adamw = { max_epochs = 3 }\n", "")
    text = text.replace('"sensorium"', '"toy"').replace('path = "mouse"', 'path = "mouse.toy"')
    path = tmp_path / "toy.toml"
    path.write_text(text.replace('solver = "adamw"', 'solver = "toy"'))
    assert main(["run", str(path), "--dry-run"]) == 0
    assert "6 conditions to fit" in capsys.readouterr().out
    assert main(["run", str(path), "--quiet"]) == 0
    table = pd.read_parquet(tmp_path / "runs/results/neurons.parquet")
    assert set(table["solver"]) == {"toy"} and len(table) == 6 * 4
    # One rate for all images explains nothing of what varies between them.
    assert (table["val_varexp"] <= 0).all()
    capsys.readouterr()
    assert main(["run", str(path), "--dry-run"]) == 0
    # All but the report, which these tests do not draw.
    assert "7 of 8 steps up to date" in capsys.readouterr().out
