"""Which tokens these are: a key over everything that changes one, and readable differences."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

#: Settings that describe but do not decide a token; they stay out of the key.
DESCRIPTIVE = ("images.crc32",)


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces; floats as Python's shortest form, never NaN.

    Raises
    ------
    ValueError
        A value that JSON cannot hold, NaN included.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key_of(settings: Mapping[str, Any]) -> str:
    """The sha256 of the settings' canonical JSON, descriptive ones left out."""
    flat = {name: value for name, value in flatten(settings) if name not in DESCRIPTIVE}
    return hashlib.sha256(canonical_json(flat).encode()).hexdigest()


def flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as ("backbone.weights.sha256", value) pairs."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def differences(
    wanted: Mapping[str, Any], stored: Mapping[str, Any], *, declared_only: bool = False
) -> list[str]:
    """Every setting that differs, as "name: WANTED here, STORED there".

    Parameters
    ----------
    wanted, stored : mapping
        Nested settings of the experiment and of a store.
    declared_only : bool
        Compare only what `wanted` names, for an experiment that cannot tell everything.
    """
    ours, theirs = dict(flatten(wanted)), dict(flatten(stored))
    names = ours.keys() if declared_only else ours.keys() | theirs.keys()
    return [
        f"{name}: {_short(ours.get(name))} here, {_short(theirs.get(name))} there"
        for name in sorted(names)
        if name not in DESCRIPTIVE and _plain(ours.get(name)) != _plain(theirs.get(name))
    ]


def _plain(value: object) -> object:
    """As JSON gives it back: tuples and lists are the same setting."""
    return json.loads(json.dumps(value))


def _short(value: object) -> str:
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}..{text[-5:]}"
