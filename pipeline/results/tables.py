"""The result tables, made from the saved conditions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from stages.conditions import IDENTITY, Condition
from stages.feve import VALID_FEV
from stages.readouts.saved import NEURON_COLUMNS, saved_attributes, saved_columns, saved_curve

NEURONS = "results/neurons.parquet"
SUMMARY = "results/summary.csv"
CURVES = "results/curves.parquet"

_TYPES = {
    **dict.fromkeys(IDENTITY, "string"),
    "block": "Int64",
    "seed": "Int64",
    "neuron": "Int64",
    "unit_id": "Int64",
    "n_repeats": "Int64",
    **dict.fromkeys(("x", "y", "fev", "feve", "feve_se"), "float64"),
    **dict.fromkeys(("val_varexp", "test_correlation"), "float64"),
    "weights": "string",
    "cache_key": "string",
}


def write_tables(run: Path, conditions: Sequence[Condition]) -> pd.DataFrame:
    """Write `neurons.parquet`, `summary.csv` and `curves.parquet`; return the summary.

    The tables hold exactly the given conditions, in their order; files whose content would not
    change are left alone.
    """
    frames = [_neurons(run, condition) for condition in conditions]
    neurons = pd.concat(frames, ignore_index=True)
    rows = [_summary(run, c, f) for c, f in zip(conditions, frames, strict=True)]
    summary = pd.DataFrame(rows).astype({name: _TYPES[name] for name in IDENTITY})
    curves = pd.concat([_curve(run, condition) for condition in conditions], ignore_index=True)
    write_if_changed(run / NEURONS, neurons.to_parquet(index=False))
    write_if_changed(run / SUMMARY, summary.to_csv(index=False).encode())
    write_if_changed(run / CURVES, curves.to_parquet(index=False))
    return summary


def read_summary(run: Path) -> pd.DataFrame:
    """The summary table of a run, array types as written."""
    types = {name: _TYPES[name] for name in IDENTITY}
    return pd.read_csv(run / SUMMARY, dtype=types)


def read_neurons(run: Path) -> pd.DataFrame:
    """The neurons table of a run."""
    return pd.read_parquet(run / NEURONS)


def read_curves(run: Path) -> pd.DataFrame:
    """The learning curves of a run."""
    return pd.read_parquet(run / CURVES)


def write_if_changed(path: Path, content: bytes) -> None:
    """Put a file in place whole, and only where its content is new."""
    if path.exists() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(content)
    temporary.replace(path)


def _neurons(run: Path, condition: Condition) -> pd.DataFrame:
    attributes = saved_attributes(run, condition)
    assert attributes is not None
    columns = saved_columns(run, condition)
    n_neurons = len(columns["neuron"])
    values = {
        **condition.identity(),
        **{name: columns.get(name) for name in NEURON_COLUMNS},
        "weights": attributes["weights"],
        "cache_key": attributes["cache_key"],
    }
    return pd.DataFrame(values, index=range(n_neurons)).astype(_TYPES)


def _summary(run: Path, condition: Condition, neurons: pd.DataFrame) -> dict[str, object]:
    attributes = saved_attributes(run, condition)
    assert attributes is not None
    valid = neurons.loc[neurons["fev"] > VALID_FEV, "feve"].to_numpy(dtype=np.float64)
    n_valid = len(valid)
    return {
        **condition.identity(),
        "n_neurons": len(neurons),
        "n_valid": n_valid,
        "mean_feve": valid.mean() if n_valid else np.nan,
        "sem_feve": valid.std(ddof=1) / np.sqrt(n_valid) if n_valid > 1 else np.nan,
        "seconds": attributes["seconds"],
    }


def _curve(run: Path, condition: Condition) -> pd.DataFrame:
    curve = pd.DataFrame(
        saved_curve(run, condition), columns=["epoch", "training_loss", "validation_score"]
    )
    identity = pd.DataFrame(condition.identity(), index=curve.index)
    return pd.concat([identity, curve], axis=1).astype(
        {**{name: _TYPES[name] for name in IDENTITY}, "epoch": "Int64"}
    )
