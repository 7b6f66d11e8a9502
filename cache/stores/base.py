"""What stores that are only ever read have in common."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import NoReturn, TypeVar

from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest

T = TypeVar("T")


class ReadOnlyStore(Store):
    """A zarr store of which a subclass defines `get` and `getsize`.

    Nothing is listed: a cache's files follow from its metadata, and http has no listing.
    """

    def __init__(self) -> None:
        super().__init__(read_only=True)
        self._is_open = True

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


def bounds(byte_range: ByteRequest | None, size: int) -> tuple[int, int]:
    """First and one past the last byte that a request means in a file of `size` bytes."""
    if byte_range is None:
        return 0, size
    if isinstance(byte_range, RangeByteRequest):
        return min(byte_range.start, size), min(byte_range.end, size)
    if isinstance(byte_range, SuffixByteRequest):
        return max(0, size - byte_range.suffix), size
    return min(byte_range.offset, size), size


async def on_loop(ask: Callable[[], Awaitable[T]], loop: asyncio.AbstractEventLoop) -> T:
    """Await something on fsspec's event loop, where its sessions live, from zarr's."""

    async def asked() -> T:
        return await ask()

    return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asked(), loop))
