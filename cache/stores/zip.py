"""A cache packed into one file: a zip whose members are stored as they are.

Any byte range of a member is a byte range of the file, so it is read in place, from a disk or from
a server.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from zarr.abc.buffer import Buffer, BufferPrototype
from zarr.abc.store import ByteRequest, RangeByteRequest, Store
from zarr.buffer import default_buffer_prototype

from cache.errors import CacheError
from cache.format.metadata import ROOT
from cache.stores.base import ReadOnlyStore, file_bytes, limits
from cache.stores.zarr_internals import sync

#: Bytes fetched at once from the end of the file: the directory of most caches fits in, and as much
#: as `zipfile` looks through for the end of one that has a comment.
TAIL = 66 * 2**10
#: No cache's directory is larger.
DIRECTORY_LIMIT = 64 * 2**20
#: Nor has any more files: one of some TB has fewer.
MEMBERS_LIMIT = 500_000
#: Whole members up to this size are read together with their header.
SMALL = 2**20

_HEADER = struct.Struct("<4s5H3I2H")
_ENCRYPTED = 0x1


class DamagedFileError(CacheError):
    """A file that is there but is no intact packed cache."""


@dataclass
class Member:
    """Where a member lies: its header, its size, where the next thing and its content begin."""

    header: int
    size: int
    next: int
    #: Known once the header was read.
    start: int | None = field(default=None, compare=False)


class PackedStore(ReadOnlyStore):
    """Members of a zip file, read by range; pickled, it takes the directory along.

    Parameters
    ----------
    store, key : zarr store, str
        Where the file lies, and its name there.
    name : str

    Attributes
    ----------
    size, comment : int, bytes
        Bytes of the file, and the zip's comment at its end.
    members : dict of Member
        Where every file of the cache lies, by path.

    Raises
    ------
    CacheError
        No such file, no zip, or members that no packed cache has.
    """

    supports_listing = True

    def __init__(self, store: Store, key: str, *, name: str) -> None:
        super().__init__(name)
        self._store = store
        self._key = key
        self.size, self.comment, self.members = _directory(store, key, name)

    async def list(self) -> AsyncIterator[str]:
        """Paths of all members."""
        for path in sorted(self.members):
            yield path

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Bytes of one member, or None where there is none."""
        member = self.members.get(key)
        if member is None:
            return None
        wanted = range(member.size)[slice(*limits(byte_range))]
        if not wanted:
            return prototype.buffer.from_bytes(b"")
        all_of_it = len(wanted) == member.size and member.next - member.header <= SMALL
        if member.start is None and all_of_it:
            whole = await self.read(member.header, member.next, prototype)
            start = self._data_start(key, whole) - member.header
            return whole[start : start + member.size]
        start = await self.start(key)
        return await self.read(start + wanted.start, start + wanted.stop, prototype)

    async def start(self, key: str) -> int:
        """Where a member's first byte lies; `CacheError` if its header is another than listed."""
        member = self.members[key]
        if member.start is not None:
            return member.start
        end_of_name = member.header + _HEADER.size + len(key)
        header = await self.read(member.header, end_of_name, default_buffer_prototype())
        return self._data_start(key, header)

    async def getsize(self, key: str) -> int:
        """Bytes of one member."""
        if key not in self.members:
            raise FileNotFoundError(f"{self.name}: {key}")
        return self.members[key].size

    async def read(self, first: int, end: int, prototype: BufferPrototype) -> Buffer:
        """Bytes of the file itself; `CacheError` if it is not what it was on opening."""
        content = await self._store.get(self._key, prototype, RangeByteRequest(first, end))
        if content is None or len(content) != end - first:
            raise CacheError(
                f"{self.name} was changed or cut off since it was opened: open it anew"
            )
        return content

    def _data_start(self, key: str, content: Buffer) -> int:
        """Where a member's bytes begin, from its own header, which must be the directory's."""
        member = self.members[key]
        head = content[: _HEADER.size + len(key)].to_bytes()
        signature, _, flags, method, *_, n_name, n_extra = _HEADER.unpack_from(head)
        start: int = member.header + _HEADER.size + n_name + n_extra
        if (
            (signature, method) != (b"PK\3\4", zipfile.ZIP_STORED)
            or flags & _ENCRYPTED
            or head[_HEADER.size :] != key.encode()
            or n_name != len(key)
            or start + member.size > member.next
        ):
            raise DamagedFileError(
                f"{self.name}: the zip's header of {key} is damaged, or another file took "
                "its place meanwhile: fetch it again, or open it anew"
            )
        member.start = start
        return start


def _directory(store: Store, key: str, name: str) -> tuple[int, bytes, dict[str, Member]]:
    """The file's size, the zip's comment, and its directory, every entry of it checked."""
    try:
        size = sync(store.getsize(key))
    except (FileNotFoundError, KeyError):
        raise CacheError(f"{name}: no feature cache there; correct the path") from None
    try:
        with zipfile.ZipFile(_End(store, key, size)) as archive:
            entries, end, comment = archive.infolist(), archive.start_dir, archive.comment
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise DamagedFileError(
            f"{name} is neither a cache's directory nor a packed cache ({error}): correct the "
            "path, or fetch the file again"
        ) from None
    if len({entry.filename for entry in entries}) < len(entries):
        raise DamagedFileError(f"{name} names a member twice: pack it again with vitv1 cache pack")
    members: dict[str, Member] = {}
    for entry in sorted(entries, key=lambda entry: entry.header_offset, reverse=True):
        problem = _entry_problem(entry, end)
        if problem:
            raise DamagedFileError(
                f"{name}: {entry.filename!r} {problem}: pack the cache again with vitv1 cache pack"
            )
        if not entry.is_dir():
            members[entry.filename] = Member(entry.header_offset, entry.file_size, end)
        end = entry.header_offset
    if ROOT not in members:
        raise DamagedFileError(f"{name} has no {ROOT} at its top: pack it with vitv1 cache pack")
    return size, comment, members


def _entry_problem(entry: zipfile.ZipInfo, end: int) -> str | None:
    """Why an entry that must end at `end` belongs to no packed cache, or None."""
    path, mode = entry.orig_filename, entry.external_attr >> 16
    if (
        not path.isascii()
        or not path.isprintable()
        or any(mark in path for mark in "\\:")
        or any(part in ("", ".", "..") for part in path.removesuffix("/").split("/"))
    ):
        return "is no path within a cache"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    if entry.flag_bits & _ENCRYPTED or entry.compress_type != zipfile.ZIP_STORED:
        return "is compressed or encrypted, so it cannot be read in place"
    start = entry.header_offset + _HEADER.size + len(path)
    if entry.compress_size != entry.file_size or start + entry.file_size > end:
        return "claims a size that the file does not have"
    return None


class _End(io.RawIOBase):
    """The file for `zipfile`: its end is fetched at once, anything before only when asked for."""

    def __init__(self, store: Store, key: str, size: int) -> None:
        self._store, self._key, self._size = store, key, size
        self._position = 0
        self._first = max(0, size - TAIL)
        self._tail = self._fetch(self._first, size)

    def _fetch(self, first: int, end: int) -> bytes:
        part = RangeByteRequest(first, end)
        return sync(file_bytes(self._store, self._key, part)) or b""

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        origin = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if origin + offset < 0:
            raise ValueError("cut off")
        self._position = origin + offset
        return self._position

    def read(self, count: int | None = -1) -> bytes:
        first = self._position
        end = self._size if count is None or count < 0 else min(self._size, first + count)
        if end - first > DIRECTORY_LIMIT:
            raise zipfile.BadZipFile("its directory is larger than any cache's")
        self._position = max(first, end)
        if first < self._first:
            content = self._fetch(first, end)
        else:
            content = self._tail[first - self._first : end - self._first]
        # Before `zipfile` makes objects of them.
        if content.count(b"PK\1\2") > MEMBERS_LIMIT:
            raise zipfile.BadZipFile("it has more files than any cache")
        return content
