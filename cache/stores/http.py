"""A cache below an http(s) address, read file by file and range by range."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from fsspec.implementations.http import HTTPFileSystem
from yarl import URL
from zarr.abc.store import ByteRequest

from cache.errors import CacheError
from cache.stores.base import PassingError, RemoteStore, limits

#: Seconds for a connection, and seconds without a byte, after which a server counts as gone.
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=20, sock_read=60)
#: Bytes beyond which no whole file is read, whatever a server sends.
LIMIT = 2 * 2**30

_UNSATISFIABLE = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
_ANSWERS = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, _UNSATISFIABLE)
#: Too many requests, and failures of a server or of what stands before it.
_BUSY = (429, 500, 502, 503, 504)
_PART = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")


class HttpStore(RemoteStore):
    """Files below a URL.

    Parameters
    ----------
    url : str
        With user and password, or a query (a signature), where the server asks for them; the query
        goes with every file. A netrc file and the usual proxy variables are heeded as well.
    name : str
    headers : mapping, optional
        Sent with every request, but to no other host that it is redirected to.
    """

    def __init__(self, url: str, *, name: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(name)
        parts = urlsplit(url)
        self._root = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        self._query = f"?{parts.query}" if parts.query else ""
        self._headers = {"Accept-Encoding": "identity", **(headers or {})}

    def _files(self) -> HTTPFileSystem:
        return HTTPFileSystem(client_kwargs={"timeout": TIMEOUT, "trust_env": True})

    async def _fetch(self, key: str, byte_range: ByteRequest | None) -> bytes:
        part, most = _header(byte_range)
        async with self._ask(key, part) as answer:
            if answer.status == _UNSATISFIABLE:
                return b""
            pieces, size = [], 0
            async for piece in answer.content.iter_any():
                size += len(piece)
                if size > most:
                    answer.close()
                    raise CacheError(f"{self.name}: the server sends more than was asked for")
                pieces.append(piece)
            return b"".join(pieces)

    async def _size(self, key: str) -> int:
        # Not by HEAD, which addresses that are signed for GET refuse.
        async with self._ask(key, "0-0") as answer:
            part = _PART.fullmatch(answer.headers.get("Content-Range", ""))
            if part is None:
                raise CacheError(
                    f"{self.name}: the server does not say how large {key} is: copy the cache to "
                    "another server or to this machine"
                )
            return int(part[3])

    @asynccontextmanager
    async def _ask(self, key: str, part: str | None) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer with the file, or with the part that was asked for."""
        headers = self._headers if part is None else {**self._headers, "Range": f"bytes={part}"}
        address = f"{self._root}/{key}{self._query}"
        # Errors are told without their own text and cause, which may hold the URL.
        try:
            # A signature may cover the very spelling of an address that has escapes in it.
            url = URL(address, encoded="%" in address)
            session = await self._files().set_session()
            async with session.get(url, headers=headers) as answer:
                self._check(answer, key, in_part=part is not None)
                yield answer
        except FileNotFoundError:
            raise
        except aiohttp.ClientConnectorError as error:
            raise CacheError(
                f"{self.name}: cannot reach {error.host}:{error.port} "
                f"({_reason(error)}): check the address and the network"
            ) from None
        except (aiohttp.InvalidURL, aiohttp.TooManyRedirects, ValueError):
            raise CacheError(f"{self.name}: no usable address; correct it") from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PassingError(_reason(error)) from None

    def _check(self, answer: aiohttp.ClientResponse, key: str, *, in_part: bool) -> None:
        """Refuse an answer that is not what was asked for."""
        status = answer.status
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise FileNotFoundError(f"{self.name}/{key}")
        if status in _BUSY:
            raise PassingError(f"answered {status}")
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise CacheError(
                f"{self.name}: access to {key} is refused ({status}): check address, user, "
                "password or signature (or that the file exists: some servers say the same)"
            )
        if in_part and status == HTTPStatus.OK:
            # Its body, which would be the whole file, is not read.
            answer.close()
            raise CacheError(
                f"{self.name}: the server ignores byte ranges, so every part of {key} would "
                "cost the whole file: copy the cache to this machine by other means, or to "
                "another server"
            )
        if status not in _ANSWERS:
            raise CacheError(f"{self.name}: the server answers {status} to {key}: try later")


def _header(byte_range: ByteRequest | None) -> tuple[str | None, int]:
    """A request as the Range header has it, and the bytes that may come at most."""
    first, end = limits(byte_range)
    if first is None:
        return None, LIMIT
    if end is not None:
        return f"{first}-{end - 1}", end - first
    return (f"{first}", -first) if first < 0 else (f"{first}-", LIMIT)


def _reason(error: BaseException) -> str:
    system = getattr(error, "os_error", error)
    text = getattr(system, "strerror", None)
    return str(text) if text else type(error).__name__
