"""The upload to an S3 bucket, through s3fs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from cache.errors import CacheError
from cache.stores.address import public_name


class BucketTarget:
    """A prefix of a bucket; credentials and endpoint are those that any AWS tool finds.

    Parameters
    ----------
    url : str
        Such as "s3://bucket/caches/features.zarr".
    """

    def __init__(self, url: str) -> None:
        self.name = public_name(url)
        parts = urlsplit(url)
        if {"@", ":"} & set(parts.netloc) or not parts.path.strip("/"):
            raise CacheError(
                f"{self.name}: write s3://BUCKET/PATH without keys: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY or AWS_PROFILE"
            )
        try:
            from cache.stores.s3 import S3Store
        except ModuleNotFoundError as missing:
            raise CacheError(
                f"{self.name}: writing s3:// needs {missing.name}, which is not installed: pip "
                "install s3fs"
            ) from None
        self._store = S3Store(url.partition("://")[2], name=self.name)

    @property
    def card_folder(self) -> str:
        """What the cache lies in."""
        return self.name.rstrip("/").rpartition("/")[0]

    def put(self, files: Sequence[tuple[str, Path | bytes]]) -> Iterator[int]:
        """Upload files one by one; s3fs sends large ones in parts."""
        for path, content in files:
            self._store.put(path, content)
            yield 1
