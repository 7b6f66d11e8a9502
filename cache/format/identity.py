"""The identity of tokens: a key over everything that changes one, and differences in words."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def content_key(content: object) -> str:
    """The sha256 of the canonical JSON of everything that something depends on.

    Raises
    ------
    ValueError
        As `canonical_json`.
    """
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()


def key_of(settings: Mapping[str, Any]) -> str:
    """The sha256 of the settings' canonical JSON, descriptive ones left out."""
    return content_key({name: v for name, v in flatten(settings) if name not in DESCRIPTIVE})


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
    """Every setting that differs, such as "preprocessing.crop: [0, 132] here, [46, 176] there".

    Images and weights are told in words: "images differ: 12 of 5,094 changed", "weights: sha256
    ab12cd34ef.. here, 0f9e8d7c6b.. there".

    Parameters
    ----------
    wanted, stored : mapping
        Nested settings of the experiment and of a store.
    declared_only : bool
        Compare only what `wanted` names, for an experiment that cannot tell everything.
    """
    ours, theirs = dict(flatten(wanted)), dict(flatten(stored))
    names = ours.keys() if declared_only else ours.keys() | theirs.keys()
    differing = [
        name
        for name in sorted(names)
        if name not in DESCRIPTIVE
        and canonical_json(ours.get(name)) != canonical_json(theirs.get(name))
    ]
    told = [
        f"{_label(name)} {_short(ours.get(name))} here, {_short(theirs.get(name))} there"
        for name in differing
        if not name.startswith("images.")
    ]
    if any(name.startswith("images.") for name in differing):
        told.append(_images_differ(ours, theirs))
    return told


def _label(name: str) -> str:
    """A setting's name in a message; a hash is said to be one."""
    owner, _, last = name.rpartition(".")
    return f"{owner.rpartition('.')[2]}: sha256" if last == "sha256" else f"{name}:"


def _images_differ(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    here, there = (_checksums(side.get("images.crc32")) for side in (ours, theirs))
    if here is None or there is None:
        one, other = (_short(side.get("images.sha256")) for side in (ours, theirs))
        return f"images differ: sha256 {one} here, {other} there"
    if len(here) != len(there):
        return f"images differ: {len(here):,} here, {len(there):,} there"
    changed = int((here != there).sum())
    if not changed:
        return f"images differ: the same {len(here):,} pictures under other ids, or another dtype"
    return f"images differ: {changed:,} of {len(here):,} changed"


def _checksums(text: object) -> NDArray[np.uint32] | None:
    """The checksum of each image, or None where there is no record of them."""
    try:
        content = base64.b64decode(str(text or ""), validate=True)
        return np.frombuffer(content, dtype="<u4").astype(np.uint32) if content else None
    except ValueError:
        return None


def _short(value: object) -> str:
    if isinstance(value, str) and len(value) > 40:
        return f"{value[:12]}.."
    text = "nothing" if value is None else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:32]}.."
