"""Paths of an experiment file: those of inputs are found by their annotation in the schema."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cache import UserError, is_url
from stages.settings import InputPath


def resolve_paths(raw: dict[str, Any], schema: type, folder: Path) -> None:
    """Make input paths of a file's table relative to the working directory, in place.

    `InputPath` marks them in its settings class, `schema`; `folder` is what they start at: the
    file's, or the working directory for what was given on the command line.

    Raises
    ------
    UserError
        "~" of a user without a home folder.
    """
    for name, hint in typing.get_type_hints(schema, include_extras=True).items():
        if name not in raw:
            continue
        value = raw[name]
        for part in parts_of(hint):
            if isinstance(part, InputPath):
                # A list sweeps.
                if isinstance(value, list):
                    raw[name] = [_resolved(each, part, folder) for each in value]
                else:
                    raw[name] = _resolved(value, part, folder)
            elif isinstance(part, type) and dataclasses.is_dataclass(part):
                for table in value if isinstance(value, list) else [value]:
                    if isinstance(table, dict):
                        resolve_paths(table, part, folder)


def _resolved(value: Any, mark: InputPath, folder: Path) -> Any:
    """A path from the working directory; what is none is left to the schema."""
    if not isinstance(value, str) or value in mark.words or is_url(value):
        return value
    return _from_here(folder / expanded(value))


def expanded(path: str | Path) -> Path:
    """A path with the home folder in place of "~"; `UserError` where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path}: no home folder is known of that user; write it out") from None


def _from_here(path: Path) -> str:
    """The shortest form from the working directory that leads to the same place.

    A text in which ".." was taken off its folder may not: behind a link, only the file system knows
    what lies above.
    """
    short = os.path.relpath(path)
    if os.path.realpath(short) != os.path.realpath(path):
        return str(path)
    # A file of that name, not somebody's home.
    return f"./{short}" if short.startswith("~") else short


def parts_of(hint: Any) -> Iterator[Any]:
    """A type hint, and all that it is made of."""
    yield hint
    yield from getattr(hint, "__metadata__", ())
    for argument in typing.get_args(hint):
        yield from parts_of(argument)
