"""A run of seconds that has everything: cache, readouts, a tuning, a CNN, figures; its content."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import pandas as pd
from support.tiny import write_experiment

from cache import UserError
from pipeline.cli.main import main
from stages.conditions import Condition
from stages.readouts import saved_columns, saved_curve, saved_readouts

_MORE = """
[finetune]
blocks = [1]
last = [1]
epochs = 2
[baseline]
models = ["cnn_fullmodel"]
kernels = [5, 3]
channels = [2, 4]
epochs = [1, 1]
"""


#: The cache has trials of its own, checkpoints are gone at the end, manifests hold seconds.
_APART = ("features", "checkpoints/", "results/manifests/", "run.log")


def write_small(folder: Path, *, n_train: int = 24, finetune: bool = True) -> Path:
    """An experiment of one fit, one tuning and one CNN; its output is `runs` beside it."""
    path = write_experiment(folder, n_train=n_train, n_validation=8, n_neurons=4)
    text = path.read_text().replace(
        "{ max_epochs = 3 }", '{ max_epochs = 2 }\nblocks = [1]\ntokens = ["patch"]'
    )
    path.write_text(text.replace("[readout.adamw]", "[readout]") + (_MORE if finetune else ""))
    return path


def vitv1(*arguments: str) -> tuple[int, str]:
    """Exit code of a command in this process, without most figures, and what it said."""
    said = io.StringIO()
    with few_figures(), redirect_stdout(said), redirect_stderr(said):
        code = main([*arguments])
    return code, said.getvalue()


@contextmanager
def few_figures() -> Iterator[None]:
    """One figure and no more within this: drawing takes longer than all else."""

    def wanted(tables: object) -> Iterator[tuple[str, object]]:
        from matplotlib.figure import Figure

        yield "learning_curves", lambda: Figure(figsize=(1, 1))

    with mock.patch("pipeline.report.figures.draw.wanted_figures", wanted):
        yield


def content_of(run: Path) -> dict[str, bytes]:
    """Files of a run by their path, as far as every run of the same settings has the same.

    Without the cache, which has its own trials, and what took how long.
    """
    found = {}
    for path in sorted(each for each in run.rglob("*") if each.is_file()):
        name = path.relative_to(run).as_posix()
        if path.name[0] == "." or name.startswith(_APART):
            continue
        content = path.read_bytes()
        if name.endswith("zarr.json") and name.count("/") == 3:
            document = json.loads(content)
            document["attributes"].pop("seconds", None)
            content = json.dumps(document).encode()
        elif name.endswith("summary.csv"):
            content = pd.read_csv(path).drop(columns="seconds").to_csv().encode()
        elif name == "report.html":
            content = b"there"
        found[name] = content
    return found


def read_all(run: Path, conditions: list[Condition]) -> dict[str, bytes | None]:
    """What each function of the API gives, as bytes; None where it refuses."""
    from pipeline.results.tables import read_curves, read_neurons, read_summary

    found: dict[str, bytes | None] = {}
    for condition in conditions:
        name = condition.slug

        def readouts(of: Condition = condition) -> bytes:
            saved = saved_readouts(run, of)
            parts = (saved.row_weights, saved.column_weights, saved.channel_weights)
            return b"".join(part.tobytes() for part in (*parts, saved.bias, saved.scale))

        def columns(of: Condition = condition) -> bytes:
            return repr({k: v.tolist() for k, v in saved_columns(run, of).items()}).encode()

        def curve(of: Condition = condition) -> bytes:
            return repr(saved_curve(run, of)).encode()

        for what, read in (("readouts", readouts), ("columns", columns), ("curve", curve)):
            found[f"{what} of {name}"] = _given(read)
    for table in (read_neurons, read_summary, read_curves):
        found[table.__name__] = _given(lambda t=table: t(run).to_csv().encode())
    return found


def _given(read: object) -> bytes | None:
    try:
        return read()  # type: ignore[operator,no-any-return]
    except (UserError, FileNotFoundError):
        return None
