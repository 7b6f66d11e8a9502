"""Faults of an experiment file, each as one line that names the place and the remedy."""

from __future__ import annotations

import dataclasses
import difflib
from typing import Any

from pydantic import ValidationError

from pipeline.toml.paths import parts_of


def first_fault(error: ValidationError, schema: type) -> str:
    """The first fault of a validation of `schema` as one line with a remedy."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"] if not str(part).startswith("tuple["))
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        wrong = str(fault["loc"][-1])
        known = _known_keys(schema, fault["loc"][:-1])
        near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.0)
        return f'unknown key {where}; did you mean "{near[0]}"? Keys here: {", ".join(known)}'
    if fault["type"] in ("missing", "missing_argument"):
        return f"{where} is missing: add it"
    if fault["type"].startswith("byte_size"):
        return f'{where} = {fault["input"]!r}: expected a number of bytes such as "4GB" or "512MiB"'
    given = fault["input"]
    shown = f" = {given!r}" if isinstance(given, (str, int, float, list, bool)) else ""
    return f"{where}{shown}: {fault['msg']}"


def _known_keys(schema: type, location: tuple[int | str, ...]) -> list[str]:
    """Keys of the table at a location of the schema."""
    table: Any = schema
    for name in location:
        if isinstance(name, str):
            hint = table.__pydantic_fields__[name].annotation
            table = next(part for part in parts_of(hint) if dataclasses.is_dataclass(part))
    return list(table.__pydantic_fields__)
