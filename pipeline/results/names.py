"""Names of models, tunings and conditions as people say them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stages.backbones import model_name
from stages.conditions import IDENTITY, INTEGERS, JOINED, is_null

if TYPE_CHECKING:
    import pandas as pd

#: What tells conditions apart, besides their blocks.
TOLD = tuple(name for name in IDENTITY if name not in ("block", "blocks"))

_TUNINGS = {"frozen": "frozen", "full": "all tuned", "core": "core trained"}
_TOKENS = {"patch": "patch tokens", "cls": "CLS token"}


def describe(values: Mapping[Any, Any], names: Sequence[str]) -> str:
    """Values of identity columns as people say them, null ones left out; `block` tells `blocks`.

    Such as "ViT-S/16 DINOv3, last 2 tuned, patch tokens, block 3", or "CNN minimodel, seed 0", or
    "CNN + ViT-S/16 DINOv3, core trained".
    """
    said = []
    for name in names:
        value = str(values[name])
        if is_null(values[name]) or name == "blocks":
            continue
        if name == "tuning":
            value = _TUNINGS.get(value, f"last {value.removeprefix('last')} tuned")
        elif name == "model":
            parts = value.split(JOINED)
            value = JOINED.join(map(_source, parts)) if len(parts) > 1 else _model(value)
        elif name == "tokens":
            value = _TOKENS.get(value, value)
        elif name == "block" and "+" in str(values.get("blocks")):
            value = f"blocks {values['blocks']}"
        elif name in INTEGERS:
            # A column of pandas that lacks a value somewhere may hold floats.
            value = f"{name} {int(values[name])}"
        said.append(value)
    return ", ".join(said)


def _source(value: str) -> str:
    """The block of a model in a combination."""
    model, _, block = value.rpartition(":")
    return f"{model_name(model)} block {block}"


def _model(label: str) -> str:
    if not label.startswith("cnn_"):
        return model_name(label)
    cnn, _, backbone = label.removeprefix("cnn_").partition("+")
    return f"CNN + {model_name(backbone)}" if backbone else f"CNN {cnn}"


def describe_first(rows: pd.DataFrame, names: Sequence[str]) -> str:
    """The same of a table's first row; empty where it has none."""
    return describe(rows.iloc[0].to_dict(), names) if len(rows) else ""


def known(values: Iterable[object]) -> tuple[object, ...]:
    """Values that can be compared: null ones as None, since NaN is unlike itself."""
    return tuple(None if is_null(value) else value for value in values)


def varying(rows: Iterable[Mapping[Any, Any]], names: Iterable[str]) -> list[str]:
    """Those of the columns that take more than one value in a table's rows."""
    table = list(rows)
    return [name for name in names if len(set(known(row[name] for row in table))) > 1]


def telling(rows: Iterable[Mapping[Any, Any]], names: Iterable[str]) -> tuple[list[str], str]:
    """Names of the columns that tell a table's rows apart, and what the rows share, described.

    Null values tell nothing: a protocol that all tuned conditions share is not named beside each.
    """
    table, told, shared = list(rows), [], {}
    for name in names:
        values = [
            value for value in dict.fromkeys(known(row[name] for row in table)) if value is not None
        ]
        if len(values) > 1:
            told.append(name)
        elif values:
            shared[name] = values[0]
    if "block" in shared and table:
        shared["blocks"] = table[0].get("blocks")
    return told, describe(shared, [name for name in shared if name != "blocks"])
