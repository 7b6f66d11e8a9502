"""Tokens for solvers that draw their trials in any order: chunks would be read once per trial."""

from __future__ import annotations

from stages.tokens.cached import CachedTokens
from stages.tokens.random_access import Rows, RowsInMemory, hold
from stages.tokens.tokens import Tokens


def in_any_order(tokens: Tokens) -> Rows:
    """The tokens of all trials: those streamed from a cache, because memory is short, on a disk."""
    if isinstance(tokens, CachedTokens):
        return hold(tokens, in_memory=False)
    return RowsInMemory(tokens.read(0, tokens.shape[0]))
