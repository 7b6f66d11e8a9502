"""Input paths of an experiment file, found by their annotation in the schema."""

from __future__ import annotations

import dataclasses
import os
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cache import is_url
from stages.settings import InputPath


def resolve_paths(raw: dict[str, Any], schema: type, folder: Path) -> None:
    """Make input paths of a file's table relative to the working directory, in place.

    `InputPath` marks them in its settings class, `schema`; `folder` is where the file is.
    """
    for name, hint in typing.get_type_hints(schema, include_extras=True).items():
        if name not in raw:
            continue
        value = raw[name]
        for part in parts_of(hint):
            if isinstance(part, InputPath) and isinstance(value, str):
                if value not in part.words and not is_url(value):
                    raw[name] = os.path.relpath(folder / Path(value).expanduser())
            elif isinstance(part, type) and dataclasses.is_dataclass(part):
                for table in value if isinstance(value, list) else [value]:
                    if isinstance(table, dict):
                        resolve_paths(table, part, folder)


def parts_of(hint: Any) -> Iterator[Any]:
    """A type hint, and all that it is made of."""
    yield hint
    yield from getattr(hint, "__metadata__", ())
    for argument in typing.get_args(hint):
        yield from parts_of(argument)
