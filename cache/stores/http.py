"""A cache below an http(s) address, read file by file and range by range."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from urllib.parse import urlsplit, urlunsplit

import aiohttp
from fsspec.implementations.http import HTTPFileSystem
from yarl import URL
from zarr.abc.store import ByteRequest

from cache.errors import CacheError
from cache.stores.base import (
    HEADERS_WITHIN,
    LIMIT,
    PassingError,
    RemoteStore,
    TooSlowError,
    WholeFilesOnlyError,
    range_header,
)

#: Seconds for a connection.
CONNECTED_WITHIN = 15

_UNSATISFIABLE = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
_ANSWERS = (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT, _UNSATISFIABLE)
#: Too many requests, and failures of a server or of what stands before it.
_BUSY = (429, 500, 502, 503, 504)
_PART = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+)")


_log = logging.getLogger(__name__)


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
        self._noted = False
        self._headers = {"Accept-Encoding": "identity", **(headers or {})}

    def _files(self) -> HTTPFileSystem:
        # The limits of time are `_ask`'s and `_body`'s; what comes compressed stays so, unread.
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECTED_WITHIN)
        options = {"timeout": timeout, "trust_env": True, "auto_decompress": False}
        return HTTPFileSystem(client_kwargs=options)

    async def _fetch(self, key: str, byte_range: ByteRequest | None) -> bytes:
        part, most = range_header(byte_range)
        async with self._ask(key, part, most=most) as answer:
            if answer.status == _UNSATISFIABLE:
                return b""
            try:
                return await self._body(answer.content.iter_any(), most)
            except CacheError:
                # What is left of it is not read.
                answer.close()
                raise

    async def _size(self, key: str) -> int:
        # Not by HEAD, which addresses that are signed for GET refuse.
        async with self._ask(key, "0-0", most=LIMIT) as answer:
            part = _PART.fullmatch(answer.headers.get("Content-Range", ""))
            if (
                part is None
                and answer.status == HTTPStatus.OK
                and answer.content_length is not None
            ):
                # It sends the whole file, which is not read.
                answer.close()
                return answer.content_length
            if part is None:
                raise CacheError(
                    f"{self.name}: the server does not say how large {key} is: copy the cache to "
                    "another server or to this machine"
                )
            return int(part[3])

    @asynccontextmanager
    async def _ask(
        self, key: str, part: str | None, *, most: int
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """An answer with the file, or with the part that was asked for.

        A server without byte ranges may send the file if it has no more than `most` bytes and the
        part begins with it.
        """
        headers = self._headers if part is None else {**self._headers, "Range": f"bytes={part}"}
        address = f"{self._root}/{key}{self._query}"
        # Errors are told without their own text and cause, which may hold the URL.
        try:
            # A signature may cover the very spelling of an address that has escapes in it.
            url = URL(address, encoded="%" in address)
            session = await self._files().set_session()
            async with asyncio.timeout(HEADERS_WITHIN):
                answer = await session.get(url, headers=headers)
            async with answer:
                self._check(answer, key, part, most)
                yield answer
        except FileNotFoundError:
            raise
        except aiohttp.ClientConnectorError as error:
            raise CacheError(
                f"{self.name}: cannot reach {error.host}:{error.port} "
                f"({_reason(error)}): check the address and the network"
            ) from None
        except (aiohttp.InvalidURL, aiohttp.ClientResponseError, ValueError):
            raise CacheError(
                f"{self.name}: no usable address, or no answer as http has them: correct it"
            ) from None
        except TimeoutError:
            raise TooSlowError(f"no answer in time, {HEADERS_WITHIN} s at most") from None
        except (aiohttp.ClientError, OSError) as error:
            raise PassingError(_reason(error)) from None

    def _check(self, answer: aiohttp.ClientResponse, key: str, part: str | None, most: int) -> None:
        """Refuse an answer that is not what was asked for."""
        status = answer.status
        if status in (HTTPStatus.NOT_FOUND, HTTPStatus.GONE):
            raise FileNotFoundError(f"{self.name}/{key}")
        if status in _BUSY:
            wait = _seconds(answer.headers.get("Retry-After", ""))
            raise PassingError(f"answered {status}", wait=wait)
        if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise CacheError(
                f"{self.name}: access to {key} is refused ({status}): check address, user, "
                "password or signature (or that the file exists: some servers say the same)"
            )
        if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
            answer.close()
            raise CacheError(
                f"{self.name}: the server sends {key} compressed, though asked not to: have it "
                "send files as they are (no Content-Encoding), or copy the cache elsewhere"
            )
        if part is not None and status == HTTPStatus.OK:
            length = answer.content_length
            if part.startswith("0-") and length is not None and length <= most:
                self._note()
                return
            # Its body, which would be the whole file, is not read.
            answer.close()
            raise WholeFilesOnlyError(
                f"{self.name}: the server ignores byte ranges, so every part of {key} would "
                "cost the whole file: vitv1 cache pull copies whole files, then read the copy"
            )
        if status not in _ANSWERS:
            raise CacheError(f"{self.name}: the server answers {status} to {key}: try later")

    def _note(self) -> None:
        if not self._noted:
            self._noted = True
            _log.warning("%s: the server has no byte ranges: whole files are read", self.name)


def _seconds(retry_after: str) -> float:
    """Seconds that a Retry-After header names, directly or by a date; 0 where it says nothing."""
    try:
        if retry_after.isdecimal():
            return float(retry_after)
        date = parsedate_to_datetime(retry_after)
        return max(0.0, (date.astimezone(UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, OverflowError):
        return 0.0


def _reason(error: BaseException) -> str:
    system = getattr(error, "os_error", error)
    text = getattr(system, "strerror", None)
    return str(text) if text else type(error).__name__
