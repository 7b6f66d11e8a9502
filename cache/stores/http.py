"""A cache below an http(s) address, read file by file and range by range."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from fsspec.implementations.http import HTTPFileSystem
from yarl import URL
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest

from cache.errors import CacheError
from cache.stores.base import ReadOnlyStore, on_loop

#: Seconds for a connection, and seconds without a byte, after which a server counts as gone.
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)
#: Seconds before each further attempt after a lost connection or from an overloaded server.
PAUSES = (0.5, 2.0)
#: Bytes beyond which no whole file is read, whatever a server sends.
LIMIT = 2 * 2**30

_BUSY = (
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
)
_PART = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")

T = TypeVar("T")


class _Busy(Exception):
    """A status that may soon be another."""


class HttpStore(ReadOnlyStore):
    """Files below a URL.

    Parameters
    ----------
    url : str
        With user and password, or a query (a signature), where the server asks for them; the query
        goes with every file. A netrc file and the usual proxy variables are heeded as well.
    name : str
        What messages call it.
    headers : mapping, optional
        Sent with every request, but to no other host that it is redirected to.
    """

    def __init__(self, url: str, *, name: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        parts = urlsplit(url)
        self.name = name
        self._root = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        self._query = f"?{parts.query}" if parts.query else ""
        self._headers = {"Accept-Encoding": "identity", **(headers or {})}

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"HttpStore({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, HttpStore) and vars(self) == vars(other)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Bytes of one file, or None where there is none.

        Raises
        ------
        CacheError
            The server cannot be reached, refuses, or serves no ranges.
        """
        content = await self._patiently(lambda: self._fetch(key, byte_range))
        return None if content is None else prototype.buffer.from_bytes(content)

    async def getsize(self, key: str) -> int:
        """Bytes of one file, from a request for its first byte.

        Not by HEAD, which addresses that are signed for GET refuse.
        """
        size = await self._patiently(lambda: self._size(key))
        if size is None:
            raise FileNotFoundError(f"{self.name}/{key}")
        return size

    async def _fetch(self, key: str, byte_range: ByteRequest | None) -> bytes | None:
        if byte_range is None:
            async with self._ask(key) as answer:
                return await self._body(answer, LIMIT)
        if isinstance(byte_range, RangeByteRequest):
            if byte_range.start >= byte_range.end:
                return b""
            wanted, most = (
                f"{byte_range.start}-{byte_range.end - 1}",
                (byte_range.end - byte_range.start),
            )
        elif isinstance(byte_range, SuffixByteRequest):
            wanted, most = f"-{byte_range.suffix}", byte_range.suffix
        else:
            wanted, most = f"{byte_range.offset}-", LIMIT
        async with self._ask(key, wanted) as answer:
            return await self._body(answer, most)

    async def _size(self, key: str) -> int | None:
        async with self._ask(key, "0-0") as answer:
            if answer.status == HTTPStatus.NOT_FOUND:
                return None
            part = _PART.fullmatch(answer.headers.get("Content-Range", ""))
            if part is None:
                raise CacheError(
                    f"{self.name}: the server does not say how large {key} is: copy the cache to "
                    "another server or to this machine"
                )
            return int(part[3])

    @asynccontextmanager
    async def _ask(
        self, key: str, part: str | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer with the file, with the part that was asked for, or that it is not there."""
        headers = self._headers if part is None else {**self._headers, "Range": f"bytes={part}"}
        address = f"{self._root}/{key}{self._query}"
        session = await _files().set_session()
        # A signature may cover the very spelling of an address that has escapes in it.
        url = URL(address, encoded="%" in address)
        async with session.get(url, headers=headers) as answer:
            status = answer.status
            if status in _BUSY:
                raise _Busy(f"answered {status}")
            if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                raise CacheError(
                    f"{self.name}: access to {key} is refused ({status}): check address, user, "
                    "password or signature (or that the file exists: some servers say the same)"
                )
            if part is not None and status == HTTPStatus.OK:
                # Its body, which would be the whole file, is not read.
                answer.close()
                raise CacheError(
                    f"{self.name}: the server ignores byte ranges, so every part of {key} would "
                    "cost the whole file: copy the cache to this machine by other means, or to "
                    "another server"
                )
            if status not in (
                HTTPStatus.OK,
                HTTPStatus.PARTIAL_CONTENT,
                HTTPStatus.NOT_FOUND,
                HTTPStatus.GONE,
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
            ):
                raise CacheError(f"{self.name}: the server answers {status} to {key}: try later")
            yield answer

    async def _body(self, answer: aiohttp.ClientResponse, most: int) -> bytes | None:
        if answer.status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            return None
        if answer.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return b""
        pieces, size = [], 0
        async for piece in answer.content.iter_any():
            size += len(piece)
            if size > most:
                answer.close()
                raise CacheError(f"{self.name}: the server sends more than was asked for")
            pieces.append(piece)
        return b"".join(pieces)

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """An answer at the first, second or third attempt.

        Errors are told without their own text and cause, which may hold the address in full.
        """
        for pause in (*PAUSES, None):
            try:
                return await on_loop(ask, _files().loop)
            except aiohttp.ClientConnectorError as error:
                raise CacheError(
                    f"{self.name}: cannot reach {error.host}:{error.port} "
                    f"({_reason(error)}): check the address and the network"
                ) from None
            except (aiohttp.InvalidURL, aiohttp.TooManyRedirects, ValueError):
                raise CacheError(f"{self.name}: no usable address; correct it") from None
            except (aiohttp.ClientError, TimeoutError, OSError, _Busy) as error:
                if pause is None:
                    raise CacheError(
                        f"{self.name}: the connection failed {len(PAUSES) + 1} times "
                        f"({_reason(error)}): try again later"
                    ) from None
                await asyncio.sleep(pause)
        raise AssertionError


def _files() -> HTTPFileSystem:
    """The session's owner; fsspec keeps one, starts another after a fork, and ends it."""
    return HTTPFileSystem(client_kwargs={"timeout": TIMEOUT, "trust_env": True})


def _reason(error: BaseException) -> str:
    if isinstance(error, _Busy):
        return str(error)
    system = getattr(error, "os_error", error)
    text = getattr(system, "strerror", None)
    return str(text) if text else type(error).__name__
