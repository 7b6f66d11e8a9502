"""A cache below an s3:// address, through s3fs.

Credentials and endpoint are those that any AWS tool finds: AWS_PROFILE, AWS_ENDPOINT_URL,
~/.aws/credentials and so on, or fsspec's own configuration. Without any, requests are anonymous.
"""

from __future__ import annotations

import asyncio
import errno
import posixpath
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import botocore.session
from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError
from fsspec.config import conf
from s3fs import S3FileSystem
from zarr.abc.store import ByteRequest

from cache.errors import CacheError
from cache.stores.address import public_text
from cache.stores.base import HEADERS_WITHIN, PassingError, RemoteStore, TooSlowError, range_header

#: Bytes that are taken of an answer at a time, at most.
_PIECE = 2**18


class S3Store(RemoteStore):
    """Files of one bucket; s3fs itself asks again where that may help.

    Parameters
    ----------
    root : str
        Bucket and prefix, such as "bucket/caches/features.zarr".
    name : str
    """

    def __init__(self, root: str, *, name: str) -> None:
        super().__init__(name)
        self._root = root.strip("/")
        configured = conf.get("s3", {}).keys() & {"anon", "key", "secret"}
        found = configured or botocore.session.Session().get_credentials()
        self._options = {} if found else {"anon": True}

    def _files(self) -> S3FileSystem:
        return S3FileSystem(**self._options)

    async def _fetch(self, key: str, byte_range: ByteRequest | None) -> bytes:
        part, most = range_header(byte_range)
        ranged = {} if part is None else {"Range": f"bytes={part}"}
        answer = await self._ask("get_object", key, **ranged)
        with self._told(), closing(answer["Body"]) as body:
            return await self._body(body.iter_chunks(_PIECE), most)

    async def _size(self, key: str) -> int:
        # Not `info`, which lists where it finds nothing.
        return int((await self._ask("head_object", key))["ContentLength"])

    def put(self, key: str, content: Path | bytes) -> None:
        """Write one file; "" is the root itself, "../NAME" lies beside it."""
        files, path = self._files(), self._at(key)
        with self._told():
            if isinstance(content, bytes):
                files.pipe_file(path, content)
            else:
                files.put_file(str(content), path)

    def _at(self, key: str) -> str:
        return posixpath.normpath(f"{self._root}/{key}") if key else self._root

    async def _ask(self, method: str, key: str, **more: str) -> Any:
        bucket, _, path = f"{self._root}/{key}".partition("/")
        with self._told():
            try:
                async with asyncio.timeout(HEADERS_WITHIN):
                    return await self._files()._call_s3(method, Bucket=bucket, Key=path, **more)
            except TimeoutError:
                raise TooSlowError(f"no answer in time, {HEADERS_WITHIN} s at most") from None

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Tell errors of s3fs in words that help."""
        try:
            yield
        except FileNotFoundError:
            raise
        except (PermissionError, NoCredentialsError, PartialCredentialsError):
            who = "without credentials, as none were found" if self._options else "with yours"
            raise CacheError(
                f"{self.name}: access is refused ({who}): check AWS_PROFILE or AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY, and the address (S3 also refuses what is not there)"
            ) from None
        except (OSError, BotoCoreError, ValueError) as error:
            # An endpoint that is no URL is told whole, with what may be a secret.
            text = "no usable endpoint" if isinstance(error, ValueError) else str(error)
            reason = public_text(" ".join(text.split()))
            if getattr(error, "errno", None) == errno.EBUSY:
                raise PassingError(reason) from None
            raise CacheError(
                f"{self.name}: the S3 server cannot be reached or refuses ({reason}): check the "
                "address, AWS_ENDPOINT_URL and the network"
            ) from None
