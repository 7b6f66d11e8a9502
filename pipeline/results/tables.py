"""The result tables: written from the saved conditions, and read back.

Reading the summary's rows needs no pandas: a run that is up to date is shown without it.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import UserError, atomic_write
from pipeline.results.measured import measured_groups
from pipeline.results.provenance import PROVENANCE
from stages.conditions import IDENTITY, INTEGERS, Condition
from stages.feve import VALID_FEV
from stages.readouts import (
    NEURON_COLUMNS,
    PREDICTIONS,
    READOUTS,
    ROOT,
    TABLES,
    require_intact,
    saved_attributes,
    saved_columns,
    saved_curve,
    write_manifest,
)

if TYPE_CHECKING:
    import pandas as pd

NEURONS = "results/neurons.parquet"
SUMMARY = "results/summary.csv"
CURVES = "results/curves.parquet"

#: Only where an experiment sweeps how finely tokens lie.
RESOLUTION = "results/resolution.csv"

_ROOTS = tuple(f"{store}/zarr.json" for store in (READOUTS, PREDICTIONS))

_TABULATED = (NEURONS, SUMMARY, CURVES, RESOLUTION, PROVENANCE, *_ROOTS)

_IDENTITY = {name: "Int64" if name in INTEGERS else "string" for name in IDENTITY}
_TYPES = {
    **_IDENTITY,
    **dict.fromkeys(("neuron", "unit_id", "n_repeats"), "Int64"),
    **dict.fromkeys(("x", "y", "fev", "feve", "feve_se"), "float64"),
    **dict.fromkeys(("val_varexp", "test_correlation", "single_trial_correlation"), "float64"),
    **dict.fromkeys(("cc_norm", "r2_er", "r2_er_low", "r2_er_high"), "float64"),
    **dict.fromkeys(("weights", "cache_key"), "string"),
}

#: Types of columns that a recording brings, by kinds of arrays.
_KINDS = {"U": "string", "b": "boolean", "i": "Int64", "u": "Int64", "f": "float64"}

#: Texts that a spreadsheet takes for formulas, and those that look like them once neutralised.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table where it is new; a text that a spreadsheet would run has a ' in front.

    Numbers are left alone. `as_written` undoes it for one value.
    """
    texts = table.select_dtypes(["object", "string"]).columns
    safe = table.assign(**{name: table[name].map(_neutralised) for name in texts})
    write_if_changed(path, safe.to_csv(index=False).encode())


def as_written(text: Any) -> Any:
    """A value of a table's cell without the ' that `write_csv` put in front."""
    quoted = isinstance(text, str) and text.startswith("'") and _FORMULA.match(text)
    return text[1:] if quoted else text


def _neutralised(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def write_tables(run: Path, conditions: Sequence[Condition]) -> None:
    """Write neurons, summary and curves, and `resolution.csv` where it applies.

    The tables hold exactly the given conditions, in their order; files whose content would not
    change are left alone.
    """
    import pandas as pd

    from pipeline.results.resolution import resolutions, token_spacing

    frames = [_neurons(run, condition) for condition in conditions]
    neurons = pd.concat(frames, ignore_index=True)
    # Two recordings may mean different things by one name.
    mixed = dict.fromkeys(neurons.select_dtypes(object).columns, "string")
    neurons = neurons.astype(mixed)
    rows = [_summary(run, c, f) for c, f in zip(conditions, frames, strict=True)]
    summary = pd.DataFrame(rows).astype(_IDENTITY)
    curves = pd.concat([_curve(run, condition) for condition in conditions], ignore_index=True)
    write_if_changed(run / NEURONS, neurons.to_parquet(index=False))
    write_csv(run / SUMMARY, summary)
    write_if_changed(run / CURVES, curves.to_parquet(index=False))
    spacing = dict(zip(conditions, token_spacing(run, conditions), strict=True))
    resolution = resolutions(neurons, spacing)
    if len(resolution):
        write_csv(run / RESOLUTION, resolution)
    else:
        (run / RESOLUTION).unlink(missing_ok=True)
    for root in _ROOTS:
        write_if_changed(run / root, ROOT)
    protect_tables(run)


def protect_tables(run: Path) -> None:
    """Record tables, provenance and measured responses in a manifest."""
    write_manifest(run, TABLES, None, (*_TABULATED, *measured_groups(run)))


def tabulated(run: Path) -> list[Condition]:
    """The conditions that a run's tables hold, in their order; none without tables intact."""
    with suppress(FileNotFoundError, UserError):
        return [Condition.from_row(row) for row in _read_rows(run)]
    return []


def summary_rows(run: Path) -> list[dict[str, Any]]:
    """The rows of a run's summary table, None for what is empty.

    Counts, blocks and seeds are integers, `mean_feve`, `sem_feve` and `seconds` are floats.

    Raises
    ------
    FileNotFoundError
        The run has no results yet.
    """
    floats = ("mean_feve", "sem_feve", "seconds")
    return [
        {name: value or None for name, value in row.items()}
        | Condition.from_row(row).identity()
        | {name: int(row[name]) for name in ("n_neurons", "n_valid")}
        | {name: float(row[name]) if row[name] else None for name in floats}
        for row in _read_rows(run)
    ]


def read_summary(run: Path) -> pd.DataFrame:
    """The summary table of a run, column types as written."""
    import pandas as pd

    require_intact(run, TABLES, SUMMARY)
    table = pd.read_csv(run / SUMMARY, dtype=dict(_IDENTITY))
    texts = [name for name, kind in _IDENTITY.items() if kind == "string"]
    return table.assign(**{name: table[name].map(as_written).astype("string") for name in texts})


def read_resolution(run: Path) -> pd.DataFrame:
    """The table of `pipeline.results.resolution.resolutions`; empty where a run has none."""
    import pandas as pd

    from pipeline.results.resolution import NO_RESOLUTION

    require_intact(run, TABLES, RESOLUTION)
    if not (run / RESOLUTION).exists():
        return NO_RESOLUTION
    table = pd.read_csv(run / RESOLUTION, dtype=dict(_IDENTITY))
    texts = [name for name, kind in _IDENTITY.items() if kind == "string"] + ["against"]
    return table.assign(**{name: table[name].map(as_written).astype("string") for name in texts})


def read_neurons(run: Path) -> pd.DataFrame:
    """The neurons table of a run."""
    import pandas as pd

    require_intact(run, TABLES, NEURONS)
    return pd.read_parquet(run / NEURONS)


def read_curves(run: Path) -> pd.DataFrame:
    """The learning curves of a run."""
    import pandas as pd

    require_intact(run, TABLES, CURVES)
    return pd.read_parquet(run / CURVES)


def write_if_changed(path: Path, content: bytes) -> None:
    """Put a file in place whole, and only where its content is new."""
    if not path.exists() or path.read_bytes() != content:
        atomic_write(path, content)


def _read_rows(run: Path) -> list[dict[str, str]]:
    require_intact(run, TABLES, SUMMARY)
    with (run / SUMMARY).open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        return [{name: as_written(value) for name, value in row.items()} for row in rows]


def _neurons(run: Path, condition: Condition) -> pd.DataFrame:
    import pandas as pd

    attributes, columns = saved_attributes(run, condition), saved_columns(run, condition)
    assert attributes is not None
    values = {
        **condition.identity(),
        **{name: columns.get(name) for name in NEURON_COLUMNS},
        **{name: attributes[name] for name in ("weights", "cache_key")},
    }
    # Columns that the recording brings come last; a name of the tables' own is not theirs.
    extra = {name: each for name, each in columns.items() if name not in values}
    kinds = {name: _KINDS[each.dtype.kind] for name, each in extra.items()}
    table = pd.DataFrame(values | extra, index=range(len(columns["neuron"])))
    return table.astype(_TYPES | kinds)


def _summary(run: Path, condition: Condition, neurons: pd.DataFrame) -> dict[str, object]:
    attributes = saved_attributes(run, condition)
    assert attributes is not None
    valid = neurons.loc[neurons["fev"] > VALID_FEV, "feve"].to_numpy(dtype="float64")
    n_valid = len(valid)
    return {
        **condition.identity(),
        "n_neurons": len(neurons),
        "n_valid": n_valid,
        "mean_feve": valid.mean() if n_valid else math.nan,
        "sem_feve": valid.std(ddof=1) / math.sqrt(n_valid) if n_valid > 1 else math.nan,
        "seconds": attributes["seconds"],
    }


def _curve(run: Path, condition: Condition) -> pd.DataFrame:
    import pandas as pd

    names = ["epoch", "training_loss", "validation_score"]
    curve = pd.DataFrame(saved_curve(run, condition), columns=names)
    identity = pd.DataFrame(condition.identity(), index=curve.index)
    return pd.concat([identity, curve], axis=1).astype({**_IDENTITY, "epoch": "Int64"})
