"""Names of models, tunings and conditions as people say them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from stages.backbones import model_name
from stages.conditions import is_null

if TYPE_CHECKING:
    import pandas as pd

_TUNINGS = {"frozen": "frozen", "full": "all tuned"}
_TOKENS = {"patch": "patch tokens", "cls": "CLS token"}


def tuning_name(tuning: str) -> str:
    """A tuning as people say it: "last2" as "last 2 tuned"."""
    return _TUNINGS.get(tuning, f"last {tuning.removeprefix('last')} tuned")


def _model(name: str) -> str:
    """What people call a model of a table: "ViT-S/16 DINOv3", "CNN minimodel"."""
    return f"CNN {name.removeprefix('cnn_')}" if name.startswith("cnn_") else model_name(name)


def describe(values: Mapping[Any, Any], names: Sequence[str]) -> str:
    """Values of identity columns as people say them, null ones left out; `block` tells `blocks`."""
    said = []
    for name in names:
        value = values[name]
        if is_null(value) or name == "blocks":
            continue
        if name == "tuning":
            said.append(tuning_name(str(value)))
        elif name == "model":
            said.append(_model(str(value)))
        elif name == "tokens":
            said.append(_TOKENS.get(str(value), str(value)))
        elif name == "block" and "+" in str(values.get("blocks")):
            said.append(f"blocks {values['blocks']}")
        elif name in ("block", "seed"):
            said.append(f"{name} {value}")
        else:
            said.append(str(value))
    return ", ".join(said)


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
