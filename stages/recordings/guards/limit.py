"""Limit of the memory that a file may take, checked before the file is read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from cache import UserError
from stages.executors import default_memory_limit
from stages.settings import readable

#: Bytes of one number as responses are kept, float32.
NUMBER = 4

_LIMIT: ContextVar[int | None] = ContextVar("limit", default=None)


@contextmanager
def reading_limit(limit: int | None) -> Iterator[None]:
    """Within this, `check_size` refuses more bytes than these; None means the default."""
    before = _LIMIT.set(limit)
    try:
        yield
    finally:
        _LIMIT.reset(before)


def current_limit() -> int:
    """Bytes that a file read here and now may take: by default half of the free memory."""
    return _LIMIT.get() or default_memory_limit()


def check_size(size: int, what: str, limit: int | None = None) -> None:
    """Refuse what would take more bytes of memory than `limit`, by default `current_limit`.

    Raises
    ------
    UserError
        The message names what it is, its size and the limit.
    """
    limit = current_limit() if limit is None else limit
    if size > limit:
        raise UserError(
            f"{what} would take {readable(size)} of memory, and run.memory_limit leaves "
            f"{readable(limit)}: raise it if you trust the file, or name another file"
        )
