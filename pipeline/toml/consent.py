"""Consent to settings by which a stranger's file could run code, given on the command line only."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from cache import UserError
from stages.settings import Consent


def require_consent(path: Path, settings: Any, allowed: Collection[str]) -> None:
    """Refuse settings of a file that need an option of the command line that was not given.

    Parameters
    ----------
    path : path
        The file, for messages.
    settings : dataclass
        Its settings, in which `Consent` marks such fields.
    allowed : collection of str
        The options that were given.

    Raises
    ------
    UserError
        The message names the setting and the option.
    """
    for name, flag in _wanting(settings):
        if flag not in allowed:
            raise UserError(
                f"{path}: {name} can run code as you, and needs {flag} on the command line, too: "
                "add it if you trust the file, or drop the key"
            )


def _wanting(settings: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names of the settings that need consent, and by which option."""
    hints = typing.get_type_hints(type(settings), include_extras=True)
    for field in dataclasses.fields(settings):
        value, name = getattr(settings, field.name), f"{prefix}{field.name}"
        for mark in getattr(hints[field.name], "__metadata__", ()):
            if isinstance(mark, Consent) and value and value not in mark.harmless:
                yield name, mark.flag
        tables = value if isinstance(value, tuple) else (value,)
        for number, table in enumerate(tables):
            if dataclasses.is_dataclass(table):
                yield from _wanting(table, f"{name}.{number}." if len(tables) > 1 else f"{name}.")
