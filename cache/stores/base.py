"""The base of stores that are only read, and of those whose files are on a server."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any, NoReturn, TypeVar

from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.buffer import default_buffer_prototype

from cache.errors import CacheError

#: Seconds before each further attempt, where a failure may pass.
PAUSES = (0.5, 2.0)

T = TypeVar("T")


class ReadOnlyStore(Store):
    """A zarr store of which a subclass defines `get` and `getsize`.

    Nothing is listed: a cache's files follow from its metadata, and http has no listing.

    Parameters
    ----------
    name : str
        What messages call it.
    """

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

    @property
    def supports_writes(self) -> bool:
        """Never."""
        return False

    @property
    def supports_deletes(self) -> bool:
        """Never."""
        return False

    @property
    def supports_listing(self) -> bool:
        """Never."""
        return False

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Several `get` at once."""
        return await asyncio.gather(*(self.get(key, prototype, part) for key, part in key_ranges))

    async def exists(self, key: str) -> bool:
        """Whether there is such a file."""
        try:
            await self.getsize(key)
        except FileNotFoundError:
            return False
        return True

    async def set(self, key: str, value: Buffer) -> NoReturn:
        """Refuse."""
        raise ValueError(f"{self} is read-only")

    async def delete(self, key: str) -> NoReturn:
        """Refuse."""
        raise ValueError(f"{self} is read-only")

    def list(self) -> AsyncIterator[str]:
        """Refuse."""
        raise NotImplementedError(f"{self} cannot be listed")

    def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Refuse."""
        raise NotImplementedError(f"{self} cannot be listed")

    def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Refuse."""
        raise NotImplementedError(f"{self} cannot be listed")


class PassingError(Exception):
    """A failure that another attempt may not meet; its text may be shown."""


class RemoteStore(ReadOnlyStore):
    """Files on a server, which a subclass asks through one of fsspec's file systems.

    A subclass tells its errors as `CacheError` or, where asking again may help, as `PassingError`,
    without the error's own text and cause where these may hold an address in full.
    """

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Bytes of one file, or None where there is none.

        Raises
        ------
        CacheError
            The server cannot be reached, refuses, or serves no ranges.
        """
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
        """Bytes of one file.

        Raises
        ------
        FileNotFoundError, CacheError, PassingError
        """

    @abstractmethod
    async def _size(self, key: str) -> int:
        """Bytes of one file, as they are counted without listing.

        Raises
        ------
        FileNotFoundError, CacheError, PassingError
        """

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """An answer at the first, second or third attempt."""

        async def asked() -> T:
            return await ask()

        for pause in (*PAUSES, None):
            try:
                # fsspec's sessions live on an event loop of its own, not on zarr's.
                asking = asyncio.run_coroutine_threadsafe(asked(), self._files().loop)
                return await asyncio.wrap_future(asking)
            except PassingError as error:
                if pause is None:
                    raise CacheError(
                        f"{self.name}: the connection failed {len(PAUSES) + 1} times ({error}): "
                        "try again later"
                    ) from None
                await asyncio.sleep(pause)
        raise AssertionError


async def file_bytes(store: Store, path: str, part: ByteRequest | None = None) -> bytes | None:
    """A file of a store, or a part of it, or None where there is no such file."""
    value = await store.get(path, default_buffer_prototype(), part)
    return None if value is None else value.to_bytes()


def bounds(byte_range: ByteRequest | None, size: int) -> tuple[int, int]:
    """First and one past the last byte that a request means in a file of `size` bytes."""
    if byte_range is None:
        return 0, size
    if isinstance(byte_range, RangeByteRequest):
        return min(byte_range.start, size), min(byte_range.end, size)
    if isinstance(byte_range, SuffixByteRequest):
        return max(0, size - byte_range.suffix), size
    return min(byte_range.offset, size), size
