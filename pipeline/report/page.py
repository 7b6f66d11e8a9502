"""The page `report.html`: answer, figures, tables and provenance in one self-contained file."""

from __future__ import annotations

import base64
import gzip
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, select_autoescape
from PIL import Image

from pipeline.report.alt import alt_texts
from pipeline.report.answer import answer, differences, warnings
from pipeline.report.figures.draw import FIGURES, Tables
from pipeline.report.interactive import MOST_NEURONS, interactive, vega_bundle
from pipeline.report.key import REPORT
from pipeline.report.tables import (
    best_table,
    conditions_table,
    interactive_table,
    plain_table,
    resolution_table,
    shared,
    tables_bundle,
    telling_columns,
)
from pipeline.results.statistics import best_blocks, rows_of, valid
from pipeline.results.tables import write_if_changed
from stages.feve import VALID_FEV

#: Columns of the table of neurons, those that matter first.
_NEURON = ("neuron", "feve", "fev", "feve_se", "val_varexp", "test_correlation", "unit_id")


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
    charts, alt = interactive(tables), alt_texts(tables)
    data = {
        "conditions": interactive_table(conditions_table(tables.summary)),
        "neurons": interactive_table(_neuron_columns(neurons)),
    }
    packed = {"bundle": tables_bundle()["script"], "tables": json.dumps(data)}
    if charts:
        packed |= {"vega": vega_bundle(), "charts-data": json.dumps(charts)}
    page = environment.get_template("report.html.j2").render(
        name=tables.run.name,
        key=key,
        answer=answer(tables.neurons, tables.resolution),
        resolution=plain_table(resolution_table(tables.resolution)),
        warnings=warnings(tables.neurons, provenance),
        threshold=VALID_FEV,
        style=tables_bundle()["style"],
        charts=charts,
        figures=[
            {"caption": FIGURES[path.stem], "alt": alt[path.stem], "data": _picture(path)}
            for path in figures
        ],
        differences=plain_table(differences(tables.neurons)),
        best=plain_table(best_table(best_blocks(tables.neurons))),
        conditions_note=shared(tables.summary),
        neurons_note=f"{note} {shared(neurons)} {_uncertainty(neurons)}",
        packed={name: _packed(content) for name, content in packed.items()},
        facts=_facts(tables, provenance),
        settings=json.dumps(provenance.get("settings", {}), indent=2),
    )
    write_if_changed(tables.run / REPORT, page.encode())


def _packed(content: str) -> str:
    """A text as the page holds it: gzip in base64, a third of its size."""
    return base64.b64encode(gzip.compress(content.encode(), mtime=0)).decode()


def _picture(path: Path) -> str:
    """A figure as a data URL, in 96 colours, which takes a third of the room."""
    content = io.BytesIO()
    Image.open(path).convert("RGB").quantize(96, dither=Image.Dither.NONE).save(
        content, "PNG", optimize=True
    )
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


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


def _neuron_columns(neurons: pd.DataFrame) -> pd.DataFrame:
    shown = telling_columns(neurons)
    first = [name for name in _NEURON if name in shown]
    placed = {"x", "y", "n_repeats", *first}
    return shown[[*first[:1], *(c for c in shown if c not in placed), *first[1:]]]


def _uncertainty(neurons: pd.DataFrame) -> str:
    """How sure a single neuron's FEVE is."""
    told = valid(neurons).get("feve_se", pd.Series(dtype=float)).dropna()
    if told.empty:
        return ""
    return (
        f"A neuron's own FEVE is uncertain by feve_se, in the middle ± {told.median():.3f}: its "
        "standard error if other test images had been shown (bootstrap over test images)."
    )


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
