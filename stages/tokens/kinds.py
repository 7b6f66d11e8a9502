"""Kinds of tokens: what a person calls them, and the arrays of a cache that hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cache import TokenKind

#: The array of every kind, by its name in experiment files, tables and commands. Readouts are
#: fitted to "patch" and "cls".
KINDS: dict[str, TokenKind] = {"patch": "patches", "cls": "cls", "registers": "registers"}
