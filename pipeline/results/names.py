"""Names of models, tunings and conditions as people say them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from stages.conditions import is_null

_VIT = re.compile(
    r"vit_(?P<size>small|base)_patch(?P<patch>\d+)_(?:reg4_|224\.)?(?P<family>dinov3|dinov2|dino)\b"
)
_FAMILIES = {"dinov3": "DINOv3", "dinov2": "DINOv2", "dino": "DINO"}
_TUNINGS = {"frozen": "frozen", "full": "all tuned"}
_TOKENS = {"patch": "patch tokens", "cls": "CLS token"}


def tuning_name(tuning: str) -> str:
    """A tuning as people say it: "last2" as "last 2 tuned"."""
    return _TUNINGS.get(tuning, f"last {tuning.removeprefix('last')} tuned")


def model_name(name: str) -> str:
    """How people say a model: "ViT-S/16 DINOv3"; any other name as it is."""
    if name.startswith("cnn_"):
        return f"CNN {name.removeprefix('cnn_')}"
    match = _VIT.match(name)
    if match is None:
        return name
    return f"ViT-{match['size'][0].upper()}/{match['patch']} {_FAMILIES[match['family']]}"


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
            said.append(model_name(str(value)))
        elif name == "tokens":
            said.append(_TOKENS.get(str(value), str(value)))
        elif name == "block" and "+" in str(values.get("blocks")):
            said.append(f"blocks {values['blocks']}")
        elif name in ("block", "seed"):
            said.append(f"{name} {value}")
        else:
            said.append(str(value))
    return ", ".join(said)


def varying(rows: Iterable[Mapping[Any, Any]], names: Iterable[str]) -> list[str]:
    """Those of the columns that take more than one value in a table's rows."""
    values: dict[str, set[object]] = {name: set() for name in names}
    for row in rows:
        for name, seen in values.items():
            seen.add(None if is_null(row[name]) else row[name])
    return [name for name, seen in values.items() if len(seen) > 1]
