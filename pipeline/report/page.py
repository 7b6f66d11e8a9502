"""The page `report.html`: answer, figures, tables and provenance in one self-contained file."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import itables
import pandas as pd
from itables.javascript import generate_init_offline_itables_html
from jinja2 import Environment, PackageLoader, select_autoescape

from pipeline.report.answer import answer, differences, warnings
from pipeline.report.figures.draw import FIGURES, Tables
from pipeline.report.key import REPORT
from pipeline.results.names import describe_first
from pipeline.results.statistics import best_blocks, rows_of, valid
from pipeline.results.tables import write_if_changed
from stages.conditions import IDENTITY
from stages.feve import VALID_FEV

#: Neurons of the best condition that the report's table holds at most.
MOST_NEURONS = 20_000

_LINK = re.compile(r"<a href=[^>]*>(.*?)</a>", re.DOTALL)


def write_report(
    tables: Tables, figures: Sequence[Path], provenance: Mapping[str, Any], *, key: str
) -> None:
    """Write `report.html` into a run's folder; it opens from disk and needs no other file.

    The figures are PNG files, in the order they are shown. `report_key` reads `key` back.
    """
    environment = Environment(
        loader=PackageLoader("pipeline.report", "."), autoescape=select_autoescape(default=True)
    )
    neurons, note = _best_neurons(tables.neurons)
    compared = differences(tables.neurons)
    page = environment.get_template("report.html.j2").render(
        name=tables.run.name,
        key=key,
        answer=answer(tables.neurons),
        warnings=warnings(tables.neurons, provenance),
        threshold=VALID_FEV,
        tables_script=_script(),
        figures=[
            {
                "caption": FIGURES[path.stem],
                "data": f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}",
            }
            for path in figures
        ],
        differences=_plain(compared) if len(compared) else "",
        best=_plain(_telling(best_blocks(tables.neurons))),
        conditions=_interactive(_telling(tables.summary), "conditions-table"),
        conditions_note=_constant(tables.summary),
        neurons=_interactive(_telling(neurons), "neurons-table"),
        neurons_note=f"{note} {_constant(neurons)} {_uncertainty(neurons)}",
        facts=_facts(tables, provenance),
        settings=json.dumps(provenance.get("settings", {}), indent=2),
    )
    write_if_changed(tables.run / REPORT, page.encode())


def _best_neurons(neurons: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Rows of every recording's best condition, and what to say of them."""
    best = best_blocks(neurons).sort_values("mean_feve", ascending=False, kind="stable")
    rows, said = neurons, "All conditions, since none has a valid neuron."
    if len(best):
        tops = best.drop_duplicates("recording").to_dict("records")
        rows = pd.concat([rows_of(neurons, row) for row in tops], ignore_index=True)
        said = "Each recording's best condition; the others are in results/neurons.parquet."
    if len(rows) > MOST_NEURONS:
        said += f" The first {MOST_NEURONS:,} of {len(rows):,} rows."
    return rows.head(MOST_NEURONS), said


def _uncertainty(neurons: pd.DataFrame) -> str:
    """How sure a single neuron's FEVE is."""
    told = valid(neurons).get("feve_se", pd.Series(dtype=float)).dropna()
    if told.empty:
        return ""
    return (
        f"A neuron's own FEVE is uncertain by feve_se, in the middle ± {told.median():.3f}: its "
        "standard error if other test images had been shown (bootstrap over test images)."
    )


def _telling(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that tell rows apart; where all rows are alike in one, it is said once."""
    hidden = [*_alike(table), "blocks", "cache_key", "weights"]
    return table[[c for c in table.columns if c not in hidden and table[c].notna().any()]]


def _constant(table: pd.DataFrame) -> str:
    said = describe_first(table, _alike(table))
    return f"All rows: {said}." if said else ""


def _alike(table: pd.DataFrame) -> list[str]:
    names = [name for name in IDENTITY if name in table.columns and name != "blocks"]
    return [name for name in names if len(table) > 1 and table[name].nunique(dropna=False) == 1]


def _facts(tables: Tables, provenance: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Provenance as label and value."""
    seconds = tables.summary.groupby("tuning", sort=False)["seconds"].sum()
    spent = ", ".join(f"{tuning} {total:,.0f} s" for tuning, total in seconds.items())
    caches = provenance.get("caches", {}).items()
    facts = [
        ("computing time of the fits", spent),
        *(("cache", f"{path}, key {stored['key']}") for path, stored in caches),
        ("weights", ", ".join(sorted(set(tables.neurons["weights"].dropna())))),
        ("seeds", ", ".join(map(str, provenance.get("seeds", [])))),
    ]
    for name in ("versions", "hardware"):
        content = provenance.get(name, {})
        facts.append((name, ", ".join(f"{key} {value}" for key, value in content.items())))
    return facts


def _interactive(table: pd.DataFrame, name: str) -> str:
    """A table that sorts by a click on its headers and filters by words in every column."""
    shown = table.copy()
    for column in shown:
        if pd.api.types.is_float_dtype(shown[column]):
            shown[column] = shown[column].round(4)
        elif not pd.api.types.is_numeric_dtype(shown[column]):
            shown[column] = shown[column].fillna("-")
    html = itables.to_html_datatable(
        shown,
        connected=False,
        showIndex=False,
        table_id=name,
        column_filters="header",
        classes="display compact nowrap",
        paging=True,
        pageLength=15,
        lengthMenu=[15, 50, 200],
        scrollX=True,
        maxBytes=0,
        allow_html=False,
        display_logo_when_loading=False,
    )
    return _LINK.sub(r"\1", str(html))


def _plain(table: pd.DataFrame) -> str:
    """A small table without a script."""
    return table.to_html(
        index=False, border=0, classes="plain", na_rep="-", float_format=lambda x: f"{x:.3f}"
    )


@cache
def _script() -> str:
    """DataTables and its style, inside the page."""
    bundle = Path(itables.__file__).parent / "html" / "dt_bundle.js"
    return _LINK.sub(r"\1", str(generate_init_offline_itables_html(bundle)))
