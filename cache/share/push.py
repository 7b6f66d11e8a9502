"""The publication of a cache, or of some of its blocks, at a URL: resumed, and checked there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from cache.errors import CacheError, UserError
from cache.feature_cache import open_cache
from cache.format.images import continues
from cache.format.metadata import ROOT
from cache.integrity.verify import verify
from cache.share.card import CARD_MARK, card
from cache.share.copy_plan import Copy
from cache.share.pack import pack
from cache.share.pull import ByteProgress, pull
from cache.stores.address import is_url, public_name
from cache.stores.base import concurrently, document, file_bytes
from cache.stores.location import PACKED, open_store
from cache.stores.zarr_internals import sync
from cache.write.atomic import atomic_write

#: Files asked for at a time.
CONCURRENT = 12


class Target(Protocol):
    """A place behind a URL; paths are below the cache, "" is the cache where it is one file."""

    name: str

    @property
    def card_folder(self) -> str:
        """URL of the folder where its card belongs; "../" begins the paths of files there."""

    def put(self, files: Sequence[tuple[str, Path | bytes]]) -> Iterator[int]:
        """Upload files; yields how many were done at a time."""


def push(
    copy: Copy,
    destination: str,
    *,
    packed: bool = False,
    licence: str | None = None,
    progress: ByteProgress | None = None,
) -> str:
    """Publish a cache and its card, then read it there and check every byte.

    Parameters
    ----------
    copy : Copy
        From `cache.share.copy_plan.plan_copy`, of a directory on this machine.
    destination : str
        A path, `s3://BUCKET/PATH` or `hf://datasets/OWNER/NAME/PATH` of the cache.
    packed : bool
        As one file; the destination ends in ".zarr.zip".
    licence : str, optional
        Of weights and images, for the card; what the cache's provenance says by default.
    progress : callable, optional
        Called with numbers of bytes: `copy.n_bytes` altogether.

    Returns
    -------
    str
        Where the card is.

    Raises
    ------
    CacheError
        Another cache at the destination, a server that refuses, or files that are not as they were
        sent after two attempts. What was sent is kept: the same command goes on.
    UserError
        A destination that nothing can be published at.
    """
    show = progress or (lambda n_bytes: None)
    if packed != destination.endswith(PACKED):
        form = "ends in .zarr.zip" if packed else "ends in .zarr, or add --packed"
        raise UserError(f"{public_name(destination)}: the published cache's name {form}")
    name = urlsplit(destination).path.rstrip("/").rpartition("/")[2]
    licence = licence or copy.source.provenance.get("license")
    text = card(copy, url=public_name(destination), name=name, licence=licence)
    if not is_url(destination):
        return _to_folder(copy, Path(destination), packed, text, show)
    target = _target(destination)
    with tempfile.TemporaryDirectory(prefix="vitv1-push-") as folder:
        if packed:
            file = Path(folder) / name
            pack(copy, file)
            _send(target, destination, [("", file, file.stat().st_size)], show)
        else:
            _require_free(copy, destination)
            _send(target, destination, list(_files(copy)), show)
    there = sync(file_bytes(open_store(target.card_folder), "README.md"))
    path = "README.md" if there is None or CARD_MARK.encode() in there else f"{name}.md"
    for _ in target.put([(f"../{path}", text.encode())]):
        pass
    return path


def _to_folder(copy: Copy, destination: Path, packed: bool, text: str, show: ByteProgress) -> str:
    if not packed:
        pull(copy, destination, progress=show, extend=True)
    elif not destination.exists():
        pack(copy, destination, progress=show)
    faults = verify(str(destination)).faults
    if faults:
        raise CacheError(f"{destination} is not as it was sent ({faults[0]}): check the disk")
    path = destination.parent / "README.md"
    if path.exists() and CARD_MARK not in path.read_text("utf-8", errors="replace"):
        path = destination.with_name(f"{destination.name}.md")
    atomic_write(path, text.encode())
    return str(path)


def _target(destination: str) -> Target:
    scheme = urlsplit(destination).scheme
    if scheme == "hf":
        from cache.share.hub import HubTarget

        return HubTarget(destination)
    if scheme != "s3":
        raise UserError(
            f"{public_name(destination)}: caches are published in a folder, at s3:// or at "
            "hf://datasets/; a web server's files are put there by its own means"
        )
    from cache.share.bucket import BucketTarget

    return BucketTarget(destination)


def _files(copy: Copy) -> Iterator[tuple[str, Path | bytes, int]]:
    """Chunks first, then metadata, the root last: whoever looks in between finds no cache."""
    folder = Path(copy.source.path)
    if is_url(copy.source.path) or not folder.is_dir():
        raise UserError(
            f"{copy.source.name}: a directory on this machine is published: vitv1 cache pull it "
            "first, or add --packed"
        )
    for array, number in copy.files:
        yield array.file_path(number), folder / array.file_path(number), array.file_size(number)
    for path, content in reversed(copy.documents.items()):
        yield path, content, 0


def _require_free(copy: Copy, destination: str) -> None:
    """Refuse to publish over another cache, or over a part of this one."""
    root = None
    with suppress(CacheError):
        root = sync(document(open_store(destination), ROOT))
    if root is None or root == copy.documents[ROOT]:
        return
    there = open_cache(destination).store.attributes
    if not (continues(copy.source.store.attributes, there) and there["contents"] == copy.contents):
        raise CacheError(
            f"{public_name(destination)} holds another cache, or other blocks: name another place"
        )


def _send(
    target: Target,
    destination: str,
    files: list[tuple[str, Path | bytes, int]],
    show: ByteProgress,
) -> None:
    """Upload what is not there with the right size; then check all, and send once more what is not
    as it should be.
    """
    there = _sizes(destination, files)
    missing = [file for file in files if there.get(file[0]) != file[2] or not file[2]]
    show(sum(size for path, _, size in files if there.get(path) == size))
    for attempt in range(2):
        position = 0
        for n_done in target.put([(path, content) for path, content, _ in missing]):
            done = missing[position : position + n_done]
            show(sum(size for _, _, size in done) if not attempt else 0)
            position += n_done
        faults = verify(destination).faults
        wrong = {fault.path for fault in faults}
        if not wrong:
            return
        missing = [file for file in files if file[0] in wrong or not file[0]]
    raise CacheError(
        f"{target.name} is not as it was sent ({faults[0]}): repeat the command, and if this comes "
        "again, look at the server"
    )


def _sizes(destination: str, files: list[tuple[str, Path | bytes, int]]) -> dict[str, int]:
    """Bytes of what an earlier attempt left there."""
    if len(files) == 1:
        return {}
    store = open_store(destination)

    async def size_of(path: str, size: int) -> int | None:
        with suppress(FileNotFoundError, KeyError):
            return await store.getsize(path) if size else None
        return None

    asked = [(path, size) for path, _, size in files]
    found = sync(concurrently(size_of, asked, at_once=CONCURRENT))
    return {path: size for (path, _), size in zip(asked, found, strict=True) if size is not None}
