"""`vitv1 cache info`, `pack` and `pull`: what a cache is, and handing it on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from rich.filesize import decimal

from cache import TokenKind, cache_info, flatten, open_cache, pack, plan_copy, pull
from pipeline.terminal import Terminal


def show_info(path: str, terminal: Terminal, *, as_json: bool) -> None:
    """Print what a cache is.

    Raises
    ------
    CacheError
        There is none.
    """
    info = cache_info(open_cache(path))
    if as_json:
        terminal.result(json.dumps(info, indent=2))
        return
    sizes = [
        {"block": block, **{kind: decimal(size) for kind, size in kinds.items()}}
        for block, kinds in info["blocks"].items()
    ]
    terminal.table(sizes, title=info["path"])
    shards = info["shards"]
    missing = f", {shards['missing']} of {shards['total']} shards missing: vitv1 extract goes on"
    facts = {
        "complete": "yes" if info["complete"] else f"no{missing}",
        "images": f"{info['images']:,}",
        "blocks": f"{len(info['blocks'])} of {info['n_blocks']}",
        "size": f"{decimal(info['bytes'])} in {info['files']} files",
        "key": info["key"],
        "format": info["format_version"],
        **{f"settings.{name}": value for name, value in flatten(info["settings"])},
        **{f"provenance.{name}": value for name, value in flatten(info["provenance"])},
    }
    width = max(map(len, facts))
    for name, value in facts.items():
        terminal.result(f"{name:<{width}}  {value}")


def pack_cache(path: str, destination: Path, terminal: Terminal) -> None:
    """Pack a cache into one file.

    Raises
    ------
    CacheError
        No complete cache at `path`, or something at `destination`.
    """
    copy = plan_copy(open_cache(path))
    with terminal.transfer(f"packing {destination.name}", total=copy.n_bytes) as done:
        pack(copy, destination, progress=done)
    terminal.result(f"{destination}: {decimal(destination.stat().st_size)}, every chunk checked")


def pull_cache(
    path: str,
    destination: Path,
    terminal: Terminal,
    *,
    blocks: Sequence[int] | None,
    kinds: Sequence[TokenKind] | None,
) -> None:
    """Copy a cache or a part of it.

    Raises
    ------
    CacheError
        What is asked for is not there, or cannot be copied.
    """
    copy = plan_copy(open_cache(path), blocks=blocks, kinds=kinds)
    with terminal.transfer(f"pulling {destination.name}", total=copy.n_bytes) as done:
        fetched = pull(copy, destination, progress=done)
    held = open_cache(str(destination))
    terminal.result(
        f"{destination}: {decimal(copy.n_bytes)} ({decimal(fetched)} fetched), blocks "
        f"{', '.join(map(str, held.blocks))}: {', '.join(held.kinds)}; every chunk checked"
    )
