"""A cache below an s3:// address, through s3fs.

Credentials and endpoint are those that any AWS tool finds: AWS_PROFILE, AWS_ENDPOINT_URL,
~/.aws/credentials and so on, or fsspec's own configuration. Without any, requests are anonymous.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import botocore.session
from botocore.exceptions import BotoCoreError, NoCredentialsError, PartialCredentialsError
from fsspec.config import conf
from s3fs import S3FileSystem
from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, RangeByteRequest, SuffixByteRequest

from cache.errors import CacheError
from cache.stores.base import ReadOnlyStore, on_loop

T = TypeVar("T")


class S3Store(ReadOnlyStore):
    """Files of one bucket.

    Parameters
    ----------
    root : str
        Bucket and prefix, such as "bucket/caches/features.zarr".
    name : str
        What messages call it.
    """

    def __init__(self, root: str, *, name: str) -> None:
        super().__init__()
        self.name = name
        self._root = root.strip("/")
        configured = conf.get("s3", {}).keys() & {"anon", "key", "secret"}
        found = configured or botocore.session.Session().get_credentials()
        self._options = {} if found else {"anon": True}

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"S3Store({self.name!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, S3Store) and vars(self) == vars(other)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Bytes of one file, or None where there is none.

        Raises
        ------
        CacheError
            The server cannot be reached or refuses.
        """
        start, end = _limits(byte_range)
        if start is not None and start == end:
            return prototype.buffer.from_bytes(b"")
        files, path = self._files(), f"{self._root}/{key}"
        try:
            # One request: with several, s3fs would ask for the size first.
            content = await self._asked(
                lambda: files._cat_file(path, start=start, end=end, max_concurrency=1)
            )
        except FileNotFoundError:
            return None
        return prototype.buffer.from_bytes(content)

    async def getsize(self, key: str) -> int:
        """Bytes of one file."""
        files = self._files()
        bucket, _, path = f"{self._root}/{key}".partition("/")
        # Not `info`, which lists where it finds nothing.
        head = await self._asked(lambda: files._call_s3("head_object", Bucket=bucket, Key=path))
        return int(head["ContentLength"])

    def _files(self) -> Any:
        """The session's owner; fsspec keeps one and starts another after a fork."""
        return S3FileSystem(**self._options)

    async def _asked(self, ask: Callable[[], Awaitable[T]]) -> T:
        """An answer; s3fs itself tries again where that may help."""
        try:
            return await on_loop(ask, self._files().loop)
        except FileNotFoundError:
            raise
        except (PermissionError, NoCredentialsError, PartialCredentialsError):
            who = "without credentials, as none were found" if self._options else "with yours"
            raise CacheError(
                f"{self.name}: access is refused ({who}): check AWS_PROFILE or AWS_ACCESS_KEY_ID "
                "and AWS_SECRET_ACCESS_KEY, and the address (S3 also refuses what is not there)"
            ) from None
        except (OSError, BotoCoreError, TimeoutError) as error:
            raise CacheError(
                f"{self.name}: the S3 server cannot be reached or refuses ({error}): check the "
                "address, AWS_ENDPOINT_URL and the network"
            ) from None


def _limits(byte_range: ByteRequest | None) -> tuple[int | None, int | None]:
    """First and one past the last byte, as s3fs takes them."""
    if byte_range is None:
        return None, None
    if isinstance(byte_range, RangeByteRequest):
        return byte_range.start, byte_range.end
    if isinstance(byte_range, SuffixByteRequest):
        return -byte_range.suffix, None
    return byte_range.offset, None
