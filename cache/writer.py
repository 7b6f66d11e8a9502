"""Writing a feature cache: shard by shard, each durable before it is claimed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BytesCodec, Crc32cCodec

from cache.errors import CacheError
from cache.identity import differences, key_of
from cache.layout import DIMENSIONS, Layout, TokenKind, TokenShape
from cache.lock import writer_lock
from cache.store import FORMAT, FORMAT_VERSION, FeatureCache, open_cache

#: Tokens of one shard: per block, an array per kind with images first.
ShardTokens = list[dict[TokenKind, NDArray[Any]]]


class CacheWriter:
    """The one writer of a store; obtained from `write_cache`.

    The order of a shard's write is: its files, fsync of each, then `progress`, then fsync of that.
    A kill at any moment thus leaves `progress` claiming only what is on disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._group = zarr.open_group(str(path), mode="r+", use_consolidated=False)
        self.cache: FeatureCache = open_cache(str(path))
        self._progress = np.asarray(self._array("progress")[:], dtype=np.uint8)

    def missing_shards(self) -> list[int]:
        """Shards that are not durably written, in order."""
        return [int(s) for s in np.flatnonzero(self._progress == 0)]

    def shard_ids(self, shard: int) -> NDArray[np.int64]:
        """Image ids of one shard."""
        size = self.cache.images_per_shard
        return self.cache.image_ids[shard * size : (shard + 1) * size]

    def write_shard(self, shard: int, tokens: ShardTokens) -> None:
        """Write every array of one shard, then record it.

        Parameters
        ----------
        shard : int
            Which shard.
        tokens : list of dict
            Per block, the arrays with the shard's images first. Arrays are dropped from the
            dicts as they are written, so that memory is freed along the way.
        """
        first = shard * self.cache.images_per_shard
        for block, arrays in enumerate(tokens):
            for kind in list(arrays):
                values = arrays.pop(kind)
                array = self._array(f"blocks/{block:02d}/{kind}")
                array[first : first + len(values)] = values
                zeros = "/0" * (array.ndim - 1)
                _sync_file(self.path / f"blocks/{block:02d}/{kind}/c/{shard}{zeros}")
        self._progress[shard] = 1
        self._array("progress")[:] = self._progress
        _sync_file(self.path / "progress/c/0")

    def finish(self) -> None:
        """Declare the store complete.

        Raises
        ------
        RuntimeError
            A shard is missing.
        """
        if self.missing_shards():
            raise RuntimeError(f"shards {self.missing_shards()} are not written")
        self._group.attrs["complete"] = True
        _sync_file(self.path / "zarr.json")

    def _array(self, name: str) -> zarr.Array[Any]:
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array


@contextmanager
def write_cache(
    path: Path,
    *,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    image_ids: NDArray[np.int64],
    shape: TokenShape,
    layout: Layout,
    replace: bool = False,
) -> Iterator[CacheWriter]:
    """Create a store, or resume one of the same key, under the writer's lock.

    Parameters
    ----------
    settings : mapping
        Everything that changes a token; its hash is the key.
    provenance : mapping
        How the store is being made (versions, host, time); kept from the first run on resuming.
    image_ids : array of shape (n_images,)
        Strictly increasing ids, row by row.
    layout : Layout
        Used for a new store; a resumed one keeps its own.
    replace : bool
        Delete a store of another key instead of refusing it.

    Raises
    ------
    CacheError
        Another writer at work; a store of another key without `replace`; something at `path`
        that is no feature cache.
    """
    with writer_lock(path):
        if path.exists():
            stored = _stored(path, replace=replace)
            if stored is not None and stored.key != key_of(settings):
                if not replace:
                    differing = "; ".join(differences(settings, stored.settings))
                    raise CacheError(
                        f"{path} holds other tokens than this experiment names ({differing}): name "
                        "another [cache] path, or vitv1 extract --replace"
                    )
                stored = None
            if stored is None:
                shutil.rmtree(path)
        if not path.exists():
            _create(path, settings, provenance, image_ids, shape, layout)
        yield CacheWriter(path)


def _stored(path: Path, *, replace: bool) -> FeatureCache | None:
    """The store at `path`, or None where an unreadable one may be replaced."""
    try:
        return open_cache(str(path))
    except CacheError as error:
        ours = (path / "zarr.json").exists() and FORMAT in (path / "zarr.json").read_text(
            "utf-8", "replace"
        )
        if replace and ours:
            return None
        raise CacheError(f"{error}; nothing was overwritten") from None


def _create(
    path: Path,
    settings: Mapping[str, Any],
    provenance: Mapping[str, Any],
    image_ids: NDArray[np.int64],
    shape: TokenShape,
    layout: Layout,
) -> None:
    """Write the empty store beside its place and move it there whole."""
    temporary = path.with_name(path.name + ".new")
    if temporary.exists():
        shutil.rmtree(temporary)
    n_images = len(image_ids)
    root = zarr.create_group(
        str(temporary),
        zarr_format=3,
        attributes={
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "key": key_of(settings),
            "settings": dict(settings),
            "provenance": dict(provenance),
            "contents": {
                "blocks": list(range(shape.n_blocks)),
                "arrays": list(shape.kinds()),
                "images_per_shard": layout.images_per_shard,
            },
            "complete": False,
        },
    )
    _whole_array(root, "image", image_ids.astype(np.int64), "image")
    progress = np.zeros(layout.n_shards(n_images), dtype=np.uint8)
    _whole_array(root, "progress", progress, "shard")
    blocks = root.create_group("blocks")
    for block in range(shape.n_blocks):
        group = blocks.create_group(f"{block:02d}")
        for kind in shape.kinds():
            item = shape.item(kind)
            group.create_array(
                kind,
                shape=(n_images, *item),
                dtype=shape.dtype,
                chunks=(layout.images_per_chunk[kind], *item),
                shards=(layout.images_per_shard, *item),
                serializer=BytesCodec(),
                compressors=[Crc32cCodec()],
                fill_value=0,
                dimension_names=DIMENSIONS[kind],
                config={"write_empty_chunks": True},
            )
    _sync_tree(temporary)
    temporary.rename(path)
    _sync_directory(path.parent)


def _whole_array(group: zarr.Group, name: str, values: NDArray[Any], dimension: str) -> None:
    array = group.create_array(
        name,
        shape=values.shape,
        dtype=values.dtype,
        chunks=values.shape,
        serializer=BytesCodec(),
        compressors=[Crc32cCodec()],
        fill_value=0,
        dimension_names=(dimension,),
        config={"write_empty_chunks": True},
    )
    array[:] = values


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    _sync_directory(path.parent)


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_tree(root: Path) -> None:
    for path in root.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        else:
            _sync_directory(path)
    _sync_directory(root)
