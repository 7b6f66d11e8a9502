"""Settings overridden on the command line: "table.key=value"."""

from __future__ import annotations

import tomllib
from typing import Any

from cache import UserError


def override(raw: dict[str, Any], text: str) -> None:
    """Set one value of the whole file, `raw`, in place.

    `text` is "table.key=value" with a TOML value; a bare word is a string. A repeated table is
    addressed by number: "recording.0.path". "table=none" drops a table: it becomes None, which the
    schema takes where there need be no table.

    Raises
    ------
    UserError
        A text of another form, or a table that is not there.
    """
    name, equals, value = text.partition("=")
    parts = name.strip().split(".")
    if equals and len(parts) == 1 and parts[0] and value.strip() == "none":
        raw[parts[0]] = None
        return
    if not equals or len(parts) < 2 or not all(parts):
        raise UserError(
            f'--set {text}: expected table.key=value, such as "readout.blocks=[3]", or table=none, '
            "which drops a table"
        )
    table: Any = raw
    for depth, part in enumerate(parts[:-1]):
        if isinstance(table, list):
            table = _item(table, part, text)
            continue
        table = table.setdefault(part, {})
        following = parts[depth + 1]
        if isinstance(table, list) and not following.isdigit():
            # One [recording] may be written as a repeated table.
            if len(table) != 1:
                raise UserError(
                    f"--set {text}: there are {len(table)} [[{part}]] tables, name one: "
                    f"{part}.0.{following}"
                )
            table = table[0]
    if isinstance(table, list):
        table = _item(table, parts.pop(), text)
    if not isinstance(table, dict):
        raise UserError(f"--set {text}: {'.'.join(parts[:-1])} is no table")
    table[parts[-1]] = _toml_value(value.strip())


def _item(tables: list[Any], number: str, text: str) -> Any:
    if not number.isdigit() or int(number) >= len(tables):
        raise UserError(f"--set {text}: {number} is not one of 0..{len(tables) - 1}")
    return tables[int(number)]


def _toml_value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
