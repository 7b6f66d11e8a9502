"""The seal of a packed cache: a hash over every byte of the zip that belongs to no member.

Members have their own checksums. The seal is the zip's comment, at the end of the file.
"""

from __future__ import annotations

import hashlib

from zarr.buffer import default_buffer_prototype

from cache.errors import CacheError
from cache.format.faults import Fault
from cache.stores.base import concurrently
from cache.stores.zip import PackedStore

_PREFIX = b"vitv1 seal sha256:"
#: What stands in a zip's comment while the seal is not known yet.
PLACEHOLDER = _PREFIX + b"0" * 64
#: Headers fetched at a time.
_CONCURRENT = 12


async def seal(store: PackedStore) -> bytes:
    """The comment that an intact file of these headers has; `CacheError` if a header is wrong."""

    async def read(first: int, end: int) -> bytes:
        return (await store.read(first, end, default_buffer_prototype())).to_bytes()

    members = sorted(store.members.items(), key=lambda item: item[1].header)
    starts = await concurrently(store.start, ((p,) for p, _ in members), at_once=_CONCURRENT)
    ends = [begin + member.size for begin, (_, member) in zip(starts, members, strict=True)]
    gaps = zip([0, *ends], [*starts, store.size - len(PLACEHOLDER)], strict=True)
    parts = await concurrently(read, gaps, at_once=_CONCURRENT)
    return _PREFIX + hashlib.sha256(b"".join(parts)).hexdigest().encode()


async def seal_faults(store: PackedStore) -> list[Fault]:
    """What is wrong with a packed file outside its members."""
    problem = "was changed outside its members since it was packed: fetch it again"
    try:
        if not store.comment:
            problem = "has no seal (the zip's comment): pack the cache with vitv1 cache pack"
        elif await seal(store) == store.comment:
            return []
    except CacheError as error:
        problem = str(error)
    return [Fault(path=store.name.rpartition("/")[2], problem=problem)]
