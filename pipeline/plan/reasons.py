"""Reasons why a condition is not up to date, as people say them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cache import canonical_json, flatten

#: What a changed input of a condition is called where the setting's name would not say it.
_INPUTS = {
    "cache": "the cache holds other tokens",
    "tokens": "the cache holds other tokens",
    "recording": "the recording changed",
    "images": "the images changed",
    "frozen": "its frozen readouts change",
    "fullmodel": "its fullmodel changes",
    "version": "this version of vitv1 computes otherwise",
}


def changes(table: str, now: Mapping[str, Any], saved: object) -> str:
    """What differs between a condition's inputs and those it was saved with.

    Such as "readout.als.max_components: 96 -> 48" of table "readout.als". `saved` may be anything
    that was read from a file.
    """
    if not isinstance(saved, Mapping) or not saved:
        return "its settings, its data or vitv1 changed"
    ours, before = dict(flatten(now)), dict(flatten(saved))
    said = []
    for name in ours.keys() | before.keys():
        here, there = (canonical_json(side.get(name)) for side in (ours, before))
        if here == there:
            continue
        owner, _, rest = name.partition(".")
        if owner in _INPUTS:
            said.append(_INPUTS[owner])
        else:
            label = f"{table}.{rest}" if owner in ("settings", "solver") else f"{table}.{name}"
            said.append(f"{label}: {there} -> {here}")
    return "; ".join(sorted(set(said)))
