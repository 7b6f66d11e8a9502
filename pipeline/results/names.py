"""Conditions in words, as tables and figures call them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stages.backbones import model_name

_TUNINGS = {"frozen": "frozen", "full": "all tuned"}
_TOKENS = {"patch": "patch tokens", "cls": "CLS token"}


def tuning_name(tuning: str) -> str:
    """What people call a tuning: "last2" is "last 2 tuned"."""
    return _TUNINGS.get(tuning, f"last {tuning.removeprefix('last')} tuned")


def _model(name: str) -> str:
    """What people call a model of a table: "ViT-S/16 DINOv3", "CNN minimodel"."""
    return f"CNN {name.removeprefix('cnn_')}" if name.startswith("cnn_") else model_name(name)


def describe(values: Mapping[Any, Any], names: Sequence[str]) -> str:
    """Values of identity columns as people say them, null ones left out; `block` tells `blocks`."""
    said = []
    for name in names:
        value = values[name]
        if pd.isna(value) or name == "blocks":
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


def varying(table: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Those of the columns that take more than one value."""
    return [name for name in names if table[name].nunique(dropna=False) > 1]
