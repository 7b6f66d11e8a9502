"""Interactive figures of the report: Vega-Lite specifications, and the data of neurons in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from pipeline.report.figures.draw import Tables
from pipeline.report.figures.style import COLOURS, INTERVAL, kind_of, shades
from pipeline.report.stored import neuron_maps, neuron_tests
from pipeline.results.names import describe, known, telling
from pipeline.results.statistics import NORMAL_95, SERIES, best_blocks, reference, rows_of
from stages.conditions import IDENTITY, Condition
from stages.feve import VALID_FEV

#: Neurons of the best condition that the report holds at most.
MOST_NEURONS = 20_000

_Spec = dict[str, Any]

_FRAME: _Spec = {
    "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
    "width": "container",
    "height": 300,
    "autosize": {"type": "fit-x", "contains": "padding"},
}


@cache
def vega_bundle() -> str:
    """A script that draws Vega-Lite specifications by `window.vegaEmbed`, and needs no network."""
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def interactive(tables: Tables) -> dict[str, Any] | None:
    """Charts of the best condition's neurons and of FEVE per block; None without valid neurons.

    Returns
    -------
    dict
        `charts`, Vega-Lite specifications by name; `neurons`, columns of equal
        length; `maps` and `tests`, weights and responses as bytes in base64, or None.
    """
    best = best_blocks(tables.neurons).sort_values("mean_feve", ascending=False, kind="stable")
    if best.empty:
        return None
    top = best.iloc[0].to_dict()
    rows = rows_of(tables.neurons, top)
    condition = Condition.from_row(rows.iloc[0].to_dict())
    against = reference(tables.neurons, top)
    rows = rows.head(MOST_NEURONS).reset_index(drop=True)
    columns = _columns(tables.neurons, rows, against)
    charts = {"fev": _against_fev(top)}
    if against is not None:
        told, _ = telling([against, top], [*SERIES, "block"])
        names = (describe(against, told), describe(top, told))
        charts["reference"] = _against_reference(columns, names, top)
    if (blocks := _per_block(tables)) is not None:
        charts["blocks"] = blocks
    maps = neuron_maps(tables, condition, len(rows))
    charts |= {"map": _map_chart(maps["size"])} if maps else {}
    tests = neuron_tests(tables, condition, len(rows))
    charts |= {"tests": _tests_chart()} if tests else {}
    return {
        "condition": describe(condition.identity(), IDENTITY),
        "charts": {name: {**_FRAME, **spec} for name, spec in charts.items()},
        "neurons": columns,
        "maps": maps,
        "tests": tests,
    }


def _columns(
    neurons: pd.DataFrame, rows: pd.DataFrame, against: Mapping[Any, Any] | None
) -> dict[str, list[Any]]:
    found = {
        "neuron": rows["neuron"],
        "unit": rows["unit_id"],
        "fev": rows["fev"],
        "feve": rows["feve"],
    }
    if against is not None:
        other = rows_of(neurons, against).set_index("neuron")["feve"]
        found["reference"] = rows["neuron"].map(other)
    return {
        name: [None if pd.isna(x) else _short(x) for x in values] for name, values in found.items()
    }


def _short(value: Any) -> Any:
    return int(value) if float(value).is_integer() else round(float(value), 3)


def _number(field: str, title: str, **more: Any) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "title": title, **more}


def _neurons_chart(x: _Spec, y: _Spec, colour: Any, said: str) -> _Spec:
    told = [("neuron", "neuron"), ("unit", "unit"), ("feve", "FEVE"), ("fev", "FEV")]
    return {
        "description": said,
        "data": {"name": "neurons"},
        "transform": [{"filter": f"isValid(datum.{x['field']}) && isValid(datum.{y['field']})"}],
        "mark": {"type": "circle", "size": 28, "opacity": 0.6, "cursor": "pointer", "aria": False},
        "encoding": {
            "x": {**x, "scale": {"zero": False}},
            "y": {**y, "scale": {"zero": False}},
            "color": colour,
            "tooltip": [{"field": field, "title": title} for field, title in told],
        },
    }


def _against_fev(top: Mapping[Any, Any]) -> _Spec:
    colour = {
        "condition": {"test": f"datum.fev > {VALID_FEV}", "value": COLOURS[kind_of(top)]},
        "value": "#8a8a8a",
    }
    fev = _number("fev", f"FEV (grey: at most {VALID_FEV}, not in the means)")
    return _neurons_chart(
        fev, _number("feve", "FEVE"), colour, "FEVE against FEV, a point a neuron"
    )


def _against_reference(
    columns: Mapping[str, list[Any]], names: tuple[str, str], top: Mapping[Any, Any]
) -> _Spec:
    x, y = _number("reference", f"FEVE, {names[0]}"), _number("feve", f"FEVE, {names[1]}")
    said = f"FEVE of {names[1]} against {names[0]}, a point a neuron, with the line of equal FEVE"
    points = _neurons_chart(x, y, {"value": COLOURS[kind_of(top)]}, said)
    values = [v for name in ("reference", "feve") for v in columns[name] if v is not None]
    ends = [{"reference": v, "feve": v} for v in (min(values), max(values))] if values else []
    line = {
        "data": {"values": ends},
        "mark": {"type": "line", "color": "#8a8a8a", "aria": False},
        "encoding": {"x": points["encoding"]["x"], "y": points["encoding"]["y"]},
    }
    layer = {name: points.pop(name) for name in ("transform", "mark", "encoding")}
    return {**points, "layer": [line, layer]}


def _per_block(tables: Tables) -> _Spec | None:
    joint = tables.summary["blocks"].astype("string").str.contains("+", regex=False, na=False)
    shown = tables.summary[tables.summary["block"].notna() & ~joint].dropna(subset=["mean_feve"])
    series = [
        (dict(zip(SERIES, values, strict=True)), rows.sort_values("block"))
        for values, rows in shown.groupby(SERIES, dropna=False, sort=False)
    ]
    if not series:
        return None
    told, _ = telling((identity for identity, _ in series), SERIES)
    names = [describe(identity, told or ["tokens"]) for identity, _ in series]
    chosen = {
        known(row[name] for name in (*SERIES, "block"))
        for row in best_blocks(tables.neurons).to_dict("records")
    }
    values = [
        {
            "series": name,
            "block": int(row["block"]),
            "feve": _short(row["mean_feve"]),
            "low": _short(row["mean_feve"] - NORMAL_95 * np.nan_to_num(row["sem_feve"])),
            "high": _short(row["mean_feve"] + NORMAL_95 * np.nan_to_num(row["sem_feve"])),
            "n": int(row["n_valid"]),
            "chosen": "yes" if known([*identity.values(), row["block"]]) in chosen else "no",
        }
        for name, (identity, rows) in zip(names, series, strict=True)
        for row in rows.to_dict("records")
    ]
    tones = shades([identity for identity, _ in series], darkest=0.0)
    told_of = (
        ("series", "condition"), ("block", "block"), ("feve", "mean FEVE"), ("low", "from"),
        ("high", "to"), ("n", "neurons"), ("chosen", "chosen on validation"),
    )  # fmt: skip
    x = {"field": "block", "type": "ordinal", "title": "transformer block (0-based)"}
    colour = {
        "field": "series",
        "title": None,
        "scale": {"domain": names, "range": tones},
        "legend": {"orient": "bottom", "columns": 1, "labelLimit": 0},
    }
    point = {"type": "point", "filled": True, "size": 60}
    return {
        "description": "Mean FEVE against the block that is read, a line a condition",
        "data": {"values": values},
        "encoding": {
            "x": {**x, "axis": {"labelAngle": 0}},
            "color": colour,
            "tooltip": [{"field": field, "title": title} for field, title in told_of],
        },
        "layer": [
            {"mark": "line", "encoding": {"y": _number("feve", f"FEVE, {INTERVAL}")}},
            {"mark": "rule", "encoding": {"y": _number("low", ""), "y2": {"field": "high"}}},
            {"mark": point, "encoding": {"y": _number("feve", "")}},
        ],
    }


def _map_chart(size: Sequence[int]) -> _Spec:
    across = {"domain": [0, size[1]], "nice": False}
    down = {"domain": [0, size[0]], "nice": False, "reverse": True}
    return {
        "description": "Spatial weights of the neuron over the image, in input pixels",
        "height": 160,
        "data": {"name": "map"},
        "mark": {"type": "rect", "aria": False, "clip": True},
        "encoding": {
            "x": _number("x0", "column, input pixels", scale=across),
            "x2": {"field": "x1"},
            "y": _number("y0", "row, input pixels", scale=down),
            "y2": {"field": "y1"},
            "color": _number("weight", "weight", scale={"scheme": "greys", "domain": [0, 1]}),
            "tooltip": [{"field": "weight", "title": "weight, of the largest"}],
        },
    }


def _tests_chart() -> _Spec:
    x = _number("response", "mean response to a test image")
    y = _number("prediction", "predicted response")
    line = {
        "data": {"name": "equal"},
        "mark": {"type": "line", "color": "#8a8a8a", "aria": False},
        "encoding": {"x": x, "y": y},
    }
    told = [{"field": name, "title": name} for name in ("image", "response", "prediction")]
    points = {
        "data": {"name": "tests"},
        "mark": {"type": "circle", "size": 28, "opacity": 0.7, "aria": False},
        "encoding": {"x": x, "y": y, "color": {"value": COLOURS["frozen"]}, "tooltip": told},
    }
    return {
        "description": "Predicted against measured responses to test images, a point an image",
        "height": 220,
        "layer": [line, points],
    }
