"""Faults of an experiment file, each as one line that names the place and the remedy."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from pipeline.toml.paths import parts_of

#: Parts of a location that name no key: kinds of value of a setting that takes several.
_KIND = re.compile(
    r"(tuple|list|dict|literal|constrained|function|nullable)[\[-]|(int|str|float|bool)$"
)


def first_fault(error: ValidationError, schema: type) -> str:
    """The first fault of a validation of `schema` as one line with a remedy."""
    faults = error.errors()
    fault = faults[0]
    where = _key(fault["loc"])
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        wrong = str(fault["loc"][-1])
        known = _known_keys(schema, fault["loc"][:-1])
        near = difflib.get_close_matches(wrong, known, n=1, cutoff=0.0)
        return f'unknown key {where}; did you mean "{near[0]}"? Keys here: {", ".join(known)}'
    if fault["type"] in ("missing", "missing_argument"):
        return f"{where} is missing: add it"
    if fault["type"].startswith("byte_size"):
        return f'{where} = {fault["input"]!r}: expected a number of bytes such as "4GB" or "512MiB"'
    # Of a setting that takes values of several kinds, each kind says why this is none of it.
    of_key = [each for each in faults if _key(each["loc"]) == where]
    given = fault["input"]
    shown = f" = {given!r}" if isinstance(given, (str, int, float, list, bool)) else ""
    expected = dict.fromkeys(filter(None, map(_expected, of_key)))
    if len(expected) < len(of_key):
        return f"{where}{shown}: {fault['msg']}"
    words = [part for part in parts_of(_hint(schema, fault["loc"])) if isinstance(part, str)]
    of_words = " of " + ", ".join(map(repr, words)) if list(expected) == [LIST] and words else ""
    return f"{where}{shown}: expected {' or '.join(expected)}{of_words}"


#: A value of this kind is not there, only something else.
LIST = "a list"


def _key(location: tuple[int | str, ...]) -> str:
    """Name of a setting, without what pydantic calls the kinds of value that it takes."""
    return ".".join(str(part) for part in location if not _KIND.match(str(part)))


def _expected(fault: Mapping[str, Any]) -> str | None:
    """A kind of value that would have been taken, as people call it."""
    limits = fault.get("ctx", {})
    match fault["type"]:
        case "literal_error":
            return str(limits["expected"])
        case "tuple_type" | "list_type":
            return LIST
        case "dict_type":
            return "a table"
        case "int_type" | "int_parsing" | "int_from_float":
            return "a whole number"
        case "too_long" | "too_short" if limits.get("field_type") == "Tuple":
            number = limits.get("max_length", limits.get("min_length"))
            return f"a list of {number} values"
        case "bool_type" | "bool_parsing":
            return "true or false"
    return None


def _hint(schema: type, location: tuple[int | str, ...]) -> Any:
    """The annotation of a setting."""
    *tables, name = (p for p in location if isinstance(p, str) and not _KIND.match(p))
    table = _table(schema, tuple(tables))
    field = table.__pydantic_fields__.get(name)
    return None if field is None else field.annotation


def _known_keys(schema: type, location: tuple[int | str, ...]) -> list[str]:
    """Keys of the table at a location of the schema."""
    return list(_table(schema, location).__pydantic_fields__)


def _table(schema: type, location: tuple[int | str, ...]) -> Any:
    """The settings class of the table at a location."""
    table: Any = schema
    for name in location:
        if isinstance(name, str):
            hint = table.__pydantic_fields__[name].annotation
            table = next(part for part in parts_of(hint) if dataclasses.is_dataclass(part))
    return table
