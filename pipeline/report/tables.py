"""Tables of the report: DataTables' own for many rows, plain HTML for few."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import itables
import numpy as np
import pandas as pd
from itables.javascript import get_itable_arguments

from pipeline.results.names import describe, describe_first, telling
from pipeline.results.resolution import COMPARED
from pipeline.results.statistics import NORMAL_95, SERIES
from stages.conditions import IDENTITY


@cache
def tables_bundle() -> dict[str, str]:
    """DataTables as itables ships it: its `script`, a module that exports `ITable`, and `style`."""
    bundle = Path(itables.__file__).parent / "html" / "dt_bundle.js"
    script = bundle.read_text(encoding="utf-8")
    return {"script": script, "style": bundle.with_suffix(".css").read_text(encoding="utf-8")}


def interactive_table(table: pd.DataFrame) -> dict[str, Any]:
    """Arguments of a table that sorts by its headers and filters by words below them."""
    shown = table.copy()
    for column in shown:
        # Texts, which take a third of the room of numbers with their formats, sort as numbers.
        digits = pd.api.types.is_float_dtype(shown[column])
        shown[column] = [_cell(value, digits) for value in shown[column]]
    arguments = get_itable_arguments(
        shown.astype(object),
        showIndex=False,
        column_filters="footer",
        paging=True,
        pageLength=15,
        lengthMenu=[15, 50, 200],
        maxBytes=0,
        maxRows=0,
        maxColumns=0,
        allow_html=False,
        connected=False,
    )
    kept = ("column_filters", "data_json", "layout", "lengthMenu", "order", "pageLength", "paging")
    found = {name: value for name, value in arguments.items() if name in kept}
    return {**found, "table_html": arguments["table_html"], "classes": ["display", "compact"]}


def plain_table(table: pd.DataFrame) -> str:
    """A small table without a script; empty where there are no rows."""
    if table.empty:
        return ""
    shown = table.copy()
    for column in shown:
        digits = pd.api.types.is_float_dtype(shown[column])
        shown[column] = [_cell(value, digits) for value in shown[column]]
    return str(shown.to_html(index=False, border=0, classes="plain"))


def conditions_table(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with what matters first: what tells a condition, its block, its mean FEVE."""
    first = {
        "condition": named(summary),
        "block": summary["blocks"].to_numpy(),
        "mean_feve": summary["mean_feve"].to_numpy(dtype=float),
        "± 95 %": NORMAL_95 * summary["sem_feve"].to_numpy(dtype=float),
    }
    rest = {name: summary[name].to_numpy() for name in ("n_valid", "n_neurons", "seconds")}
    return pd.DataFrame(first | rest)


def best_table(best: pd.DataFrame) -> pd.DataFrame:
    """Rows of `best_blocks`, each condition in one column."""
    first = {"condition": named(best), "block": best["blocks"]}
    names = ("mean_feve", "test_block", "test_mean_feve")
    return pd.DataFrame(first | {name: best[name] for name in names})


def resolution_table(resolution: pd.DataFrame) -> pd.DataFrame:
    """Rows of `resolutions`: each condition in one column, numbers beside it."""
    first = {"condition": named(resolution), "block": resolution["blocks"]}
    names = ("pixels_per_token", "mean_feve", *COMPARED)
    table = pd.DataFrame(first | {name: resolution[name] for name in names})
    return table.assign(pixels_per_token=[f"{each:g}" for each in table["pixels_per_token"]])


def named(table: pd.DataFrame) -> list[str]:
    """Every row's condition by what tells it apart, as people say it."""
    rows = table.to_dict("records")
    told, _ = telling(rows, SERIES)
    return [describe(row, told or ["tuning"]) for row in rows]


def telling_columns(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that tell rows apart; where all rows are alike in one, it is said once."""
    hidden = [*_alike(table), "blocks", "cache_key", "weights"]
    return table[[c for c in table.columns if c not in hidden and table[c].notna().any()]]


def shared(table: pd.DataFrame) -> str:
    """A sentence of what all rows have in common."""
    said = describe_first(table, _alike(table))
    return f"All rows: {said}." if said else ""


def _alike(table: pd.DataFrame) -> list[str]:
    names = [name for name in IDENTITY if name in table.columns and name != "blocks"]
    return [name for name in names if len(table) > 1 and table[name].nunique(dropna=False) == 1]


def _cell(value: Any, digits: bool) -> str:
    if pd.isna(value):
        return "-"
    if digits and not np.isfinite(value):
        return str(value)
    return f"{value:.3f}" if digits else str(value)
