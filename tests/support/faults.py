"""Small stores, and every kind of damage to one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.random import Generator

from cache import CacheWriter, Layout, TokenShape, write_cache

SHAPE = TokenShape(n_blocks=2, grid=(2, 3), n_channels=4, n_registers=1, dtype="float16")
LAYOUT = Layout(images_per_shard=8, images_per_chunk={"patches": 2, "cls": 8, "registers": 4})
IDS = np.array([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73])


def settings(n_images: int = len(IDS), **changed) -> dict:
    """Settings such as an extraction's, cut down."""
    return {
        "backbone": {"name": "tiny", "n_blocks": SHAPE.n_blocks, "weights": {"sha256": "ab"}},
        "images": {"count": n_images, "sha256": "cd", "crc32": ""},
        "dtype": "float16",
        "format_version": 1,
        **changed,
    }


def token(block: int, kind: str, ids: np.ndarray) -> np.ndarray:
    """Tokens that tell block, kind and image, array of shape (n_images, ...), float16."""
    item = SHAPE.item(kind)
    number = ["patches", "cls", "registers"].index(kind)
    ramp = np.arange(np.prod(item)).reshape(item) / 64
    first = (100 * block + 20 * number + ids % 17).reshape(-1, *[1] * len(item))
    return (first + ramp).astype(np.float16)


def shard_tokens(ids: np.ndarray, shape: TokenShape = SHAPE) -> list[dict]:
    return [
        {kind: token(block, kind, ids) for kind in shape.kinds()} for block in range(shape.n_blocks)
    ]


def write_all(writer: CacheWriter, *, stop_after: int | None = None) -> None:
    """Write what is missing; with `stop_after`, only so many shards and no finish."""
    for count, shard in enumerate(writer.missing_shards()):
        if count == stop_after:
            return
        writer.write_shard(shard, shard_tokens(writer.shard_ids(shard)))
    if stop_after is None:
        writer.finish()


def open_writer(path: Path, **options):
    return write_cache(
        path,
        **{
            "settings": settings(),
            "provenance": {"made": "in a test"},
            "image_ids": IDS,
            "shape": SHAPE,
            "layout": LAYOUT,
            **options,
        },
    )


def make_store(path: Path, *, stop_after: int | None = None, **options) -> Path:
    with open_writer(path, **options) as writer:
        write_all(writer, stop_after=stop_after)
    return path


def content(root: Path) -> dict[str, bytes]:
    """Every file of a store."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True)
class Damage:
    """What was done, and the files that differ from the intact store's."""

    kind: str
    paths: tuple[str, ...]


def _flip(root: Path, files: list[str], rng: Generator) -> tuple[str, ...]:
    path = rng.choice(files)
    data = bytearray((root / path).read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    (root / path).write_bytes(data)
    return (path,)


def _truncate(root: Path, files: list[str], rng: Generator) -> tuple[str, ...]:
    path = rng.choice(files)
    data = (root / path).read_bytes()
    (root / path).write_bytes(data[: rng.integers(len(data))])
    return (path,)


def _lengthen(root: Path, files: list[str], rng: Generator) -> tuple[str, ...]:
    path = rng.choice(files)
    with (root / path).open("ab") as file:
        file.write(rng.bytes(rng.integers(1, 40)))
    return (path,)


def _delete_chunk(root: Path, files: list[str], rng: Generator) -> tuple[str, ...]:
    path = rng.choice([name for name in files if not name.endswith("zarr.json")])
    (root / path).unlink()
    return (path,)


def _delete_metadata(root: Path, files: list[str], rng: Generator) -> tuple[str, ...]:
    path = rng.choice([name for name in files if name.endswith("zarr.json")])
    (root / path).unlink()
    return (path,)


def _swap(root: Path, files: list[str], rng: Generator) -> tuple[str, ...]:
    while True:
        one, other = rng.choice(files, 2, replace=False)
        a, b = (root / one).read_bytes(), (root / other).read_bytes()
        if a != b:
            (root / one).write_bytes(b)
            (root / other).write_bytes(a)
            return (one, other)


def _zero(root: Path, files: list[str], rng: Generator) -> tuple[str, ...]:
    while True:
        path = rng.choice(files)
        data = bytearray((root / path).read_bytes())
        first = rng.integers(len(data))
        last = min(len(data), first + rng.integers(1, 64))
        if any(data[first:last]):
            data[first:last] = bytes(last - first)
            (root / path).write_bytes(data)
            return (path,)


KINDS: dict[str, Callable[[Path, list[str], Generator], tuple[str, ...]]] = {
    "bit flip": _flip,
    "truncation": _truncate,
    "bytes added": _lengthen,
    "chunk deleted": _delete_chunk,
    "metadata deleted": _delete_metadata,
    "files swapped": _swap,
    "range zeroed": _zero,
}


def damage(root: Path, rng: Generator) -> Damage:
    """Do one random kind of damage somewhere in a store, to files that have any bytes."""
    kind = str(rng.choice(list(KINDS)))
    there = [path for path in sorted(root.rglob("*")) if path.is_file() and path.stat().st_size]
    files = [str(path.relative_to(root)) for path in there]
    return Damage(kind=kind, paths=tuple(str(path) for path in KINDS[kind](root, files, rng)))


def restore(root: Path, intact: dict[str, bytes], paths: tuple[str, ...]) -> None:
    """Undo a damage."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(intact[path])
