"""Base classes of the stores: files that are only read, and files on a server."""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer import default_buffer_prototype

from cache.errors import CacheError
from cache.format.metadata import DOCUMENT_LIMIT

#: Seconds for which a busy server is asked again, and a slow one, that is silent meanwhile.
PATIENCE, PATIENCE_IF_SLOW = 120.0, 40.0
#: Seconds for an answer's headers, redirections included.
HEADERS_WITHIN = 25
#: Bytes per second that a body must have, on average over as many seconds.
SLOWEST, WINDOW = 8 * 2**10, 20
#: Bytes beyond which no whole file is read, whatever a server sends.
LIMIT = 2 * 2**30
#: Seconds before the second attempt, then twice as many each time; and the most.
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
#: Seconds of waiting after which a person is told, and again after as many.
TOLD_AFTER = 5.0

clock, sleep = time.monotonic, asyncio.sleep

_log = logging.getLogger(__name__)

T = TypeVar("T")


async def several(
    store: Store, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
) -> list[Buffer | None]:
    """Several `get` of a store at once: its `get_partial_values`."""
    return await asyncio.gather(*(store.get(key, prototype, part) for key, part in key_ranges))


class ReadOnlyStore(Store):
    """A zarr store of which a subclass defines `get` and `getsize`; messages call it `name`.

    Nothing is listed: a cache's files follow from its metadata, and http has no listing.
    """

    supports_writes = supports_deletes = supports_listing = False

    def __init__(self, name: str) -> None:
        super().__init__(read_only=True)
        self._is_open = True
        self.name = name

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(self) == vars(other)

    get_partial_values = several

    async def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        try:
            await self.getsize(key)
        except FileNotFoundError:
            return False
        return True

    async def _refuse_writing(self, key: str, value: Any = None) -> NoReturn:
        raise ValueError(f"{self} is read-only")

    set = delete = _refuse_writing

    def list(self) -> AsyncIterator[str]:
        """Refuse."""
        raise NotImplementedError(f"{self} cannot be listed")

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Refuse."""
        raise NotImplementedError(f"{self} cannot be listed")

    list_dir = list_prefix


class PassingError(Exception):
    """A failure that another attempt may not meet; its text may be shown.

    Parameters
    ----------
    wait, patience : float
        Seconds that the server asks to wait, and after which it is given up.
    """

    def __init__(self, text: str, *, wait: float = 0, patience: float = PATIENCE) -> None:
        super().__init__(f"{text}, asks to wait {wait:.0f} s" if wait else text)
        self.wait, self.patience = wait, patience


class WholeFilesOnlyError(CacheError):
    """A server that sends no parts of files."""


class TooSlowError(PassingError):
    """A server that is silent, or drips: given up sooner than a busy one."""

    def __init__(self, text: str) -> None:
        super().__init__(text, patience=PATIENCE_IF_SLOW)


class RemoteStore(ReadOnlyStore):
    """Files on a server, which a subclass asks through one of fsspec's file systems.

    A subclass tells its errors as `FileNotFoundError`, `CacheError` or, where asking again may
    help, `PassingError`, without the error's own text and cause where these may hold an address in
    full.
    """

    _last_told: ClassVar[float] = -TOLD_AFTER

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Bytes of one file, or None where there is none."""
        if isinstance(byte_range, RangeByteRequest) and byte_range.start >= byte_range.end:
            return prototype.buffer.from_bytes(b"")
        try:
            content = await self._patiently(lambda: self._fetch(key, byte_range))
        except FileNotFoundError:
            return None
        return prototype.buffer.from_bytes(content)

    async def getsize(self, key: str) -> int:
        """Bytes of one file."""
        return await self._patiently(lambda: self._size(key))

    @abstractmethod
    def _files(self) -> Any:
        """The session's owner; fsspec keeps one, starts another after a fork, and ends it."""

    @abstractmethod
    async def _fetch(self, key: str, byte_range: ByteRequest | None) -> bytes:
        """Bytes of one file."""

    @abstractmethod
    async def _size(self, key: str) -> int:
        """Bytes of one file, as they are counted without listing."""

    async def _body(self, pieces: AsyncIterator[bytes], most: int) -> bytes:
        """The content of an answer that comes fast enough and has `most` bytes at most."""
        now, content, goal = asyncio.get_running_loop().time, bytearray(), 0
        try:
            async with asyncio.timeout(WINDOW) as deadline:
                async for piece in pieces:
                    content += piece
                    if len(content) > most:
                        raise CacheError(
                            f"{self.name}: the server sends more than was asked for: copy the "
                            "cache to another server or to this machine"
                        )
                    if len(content) >= goal:
                        goal = len(content) + WINDOW * SLOWEST
                        deadline.reschedule(now() + WINDOW)
        except TimeoutError:
            raise TooSlowError(f"fewer than {SLOWEST // 2**10} KiB/s over {WINDOW} s") from None
        return bytes(content)

    async def _patiently(self, ask: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """An answer, asked for again after growing pauses, or after those that the server names."""
        began, pause, attempts = clock(), FIRST_PAUSE, 0
        while True:
            try:
                # fsspec's sessions live on an event loop of its own, not on zarr's.
                asking = asyncio.run_coroutine_threadsafe(ask(), self._files().loop)
                return await asyncio.wrap_future(asking)
            except PassingError as error:
                attempts, now, wait = attempts + 1, clock(), max(pause, error.wait)
                if now + wait > began + error.patience:
                    raise CacheError(
                        f"{self.name}: the connection failed {attempts} times ({error}): "
                        "try again later, or copy the cache by other means"
                    ) from None
                if now + wait - max(began, RemoteStore._last_told) > TOLD_AFTER:
                    RemoteStore._last_told = now
                    _log.warning("%s: %s; asked again in %.0f s", self.name, error, wait)
                await sleep(wait)
                pause = min(2 * pause, LONGEST_PAUSE)


async def file_bytes(store: Store, path: str, part: ByteRequest | None = None) -> bytes | None:
    """A file of a store, or a part of it, or None where there is no such file."""
    try:
        value = await store.get(path, default_buffer_prototype(), part)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return None if value is None else value.to_bytes()


async def document(store: Store, path: str) -> bytes | None:
    """A zarr.json as `file_bytes`; of one that `parse` refuses as too large, a little too much."""
    return await file_bytes(store, path, RangeByteRequest(0, DOCUMENT_LIMIT + 1))


def local_document(path: Path) -> bytes:
    """As `document`, of a file of this machine; `OSError` where there is none."""
    with path.open("rb") as file:
        return file.read(DOCUMENT_LIMIT + 1)


def limits(byte_range: ByteRequest | None) -> tuple[int | None, int | None]:
    """First and one past the last byte of a request, as a slice has them."""
    if byte_range is None:
        return None, None
    if isinstance(byte_range, RangeByteRequest):
        return byte_range.start, byte_range.end
    if isinstance(byte_range, SuffixByteRequest):
        # Nothing, where the last none are meant: -0 would be the first.
        return -byte_range.suffix or sys.maxsize, None
    return byte_range.offset, None


def range_header(byte_range: ByteRequest | None) -> tuple[str | None, int]:
    """A request as the Range header has it, and the bytes that may come at most."""
    first, end = limits(byte_range)
    if first is None:
        return None, LIMIT
    if end is not None:
        return f"{first}-{end - 1}", end - first
    return (f"{first}", -first) if first < 0 else (f"{first}-", LIMIT)


async def concurrently(
    work: Callable[..., Awaitable[T]], items: Iterable[tuple[Any, ...]], *, at_once: int
) -> list[T]:
    """`work(*item)` of every item, in order; the first failure ends the rest."""
    free = asyncio.Semaphore(at_once)

    async def one(item: tuple[Any, ...]) -> T:
        async with free:
            return await work(*item)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in items]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return [task.result() for task in tasks]
