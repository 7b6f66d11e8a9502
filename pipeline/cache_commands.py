"""Commands of the cache: verify and repair it, say what it is, and hand it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.filesize import decimal

from cache import (
    CacheError,
    Checkup,
    Fault,
    TokenKind,
    cache_info,
    differences,
    flatten,
    has_hashes,
    images_of,
    open_cache,
    pack,
    plan_copy,
    prepare_repair,
    public_name,
    pull,
    push,
    verify,
)

if TYPE_CHECKING:
    from pipeline.experiment import ExperimentFile
    from pipeline.terminal import Terminal
    from pipeline.variant.variant import Variant


def verify_cache(path: str, terminal: Terminal, *, quick: bool) -> Checkup:
    """Check a cache, with a progress bar.

    Raises
    ------
    CacheError
        There is none.
    """
    with _bar(path, terminal) as show:
        return verify(path, quick=quick, progress=show)


def recompute_cache(
    path: str, file: ExperimentFile, terminal: Terminal, *, n_images: int
) -> list[Fault]:
    """Compute random images again and compare; faults where the tokens differ.

    Raises
    ------
    UserError
        A cache of other settings than the experiment's, or images that are not at hand.
    """
    from pipeline.run.extract import prepare
    from pipeline.variant.together import one_per_cache, open_variants
    from stages.extract import recompute_tokens
    from stages.tokens import is_declared

    cache = open_cache(path)
    held = (cache.settings["backbone"]["name"], cache.settings["preprocessing"]["input_size"])
    variants = list(one_per_cache(open_variants(file, replaces=True)))
    # The variant of a sweep that the cache may be of.
    alike = [v for v in variants if held == (v.settings.backbone.name, [*v.settings.stimuli.size])]
    same = [v for v in alike if is_declared(cache, v.settings.backbone)]
    made = prepare((same or alike or variants)[0], hashed=cache.hashed)
    differing = differences(made.settings, cache.settings)
    if differing:
        raise CacheError(
            f"{cache.name} holds other tokens than {file.path} names ({'; '.join(differing)}): "
            "name the experiment that made it"
        )
    if made.images is not None:
        made.images.lacking(images_of(cache), where=cache.name)
    with terminal.bar("recomputing", total=n_images, unit="images") as done:
        return recompute_tokens(cache, made, n_images=n_images, progress=done)


def repair_caches(file: ExperimentFile, terminal: Terminal) -> bool:
    """Mend the cache of every variant; False where something is left to a person.

    Raises
    ------
    UserError
        No cache, one of other settings, another writer, or images that are not at hand.
    """
    from pipeline.output import caches_held
    from pipeline.variant.together import one_per_cache, open_variants

    with caches_held(file):
        variants = one_per_cache(open_variants(file, replaces=True))
        whole = [_repair(variant, terminal) for variant in variants]
    return all(whole)


def _repair(variant: Variant, terminal: Terminal) -> bool:
    from pipeline.run.extract import fill, prepare

    path = variant.cache.path
    verify(path, quick=True)
    made = prepare(variant, hashed=has_hashes(path))
    with _bar(path, terminal) as show:
        done = prepare_repair(
            made.path,
            settings=made.settings,
            provenance=made.provenance,
            image_ids=made.stimuli.ids,
            image_sha256=None if made.images is None else made.images.hashes,
            shape=made.backbone.token_shape(made.dtype),
            progress=show,
        )
    for name in done.rewritten:
        terminal.result(f"{name}: written anew")
    fill(variant, made, terminal)
    left = verify_cache(path, terminal, quick=False).faults
    show_faults(left, terminal)
    if not left:
        terminal.result(f"{path}: {_count(len(done.shards), 'shard')} extracted again; fine now")
    return not left


def show_faults(faults: Sequence[Fault], terminal: Terminal) -> None:
    """Print every fault, one per line, and what helps."""
    for fault in faults:
        terminal.result(str(fault))
    remedies = {
        "extract": "vitv1 extract EXPERIMENT.toml writes what is missing",
        "repair": "vitv1 cache repair EXPERIMENT.toml, or a new copy, mends what is damaged",
    }
    for remedy, said in remedies.items():
        if any(fault.remedy == remedy for fault in faults):
            terminal.note(said)


def verdict(checkup: Checkup, *, quick: bool) -> str:
    """One line on a cache without faults."""
    contents = (checkup.attributes or {})["contents"]
    n_images = 0 if checkup.ids is None else len(checkup.ids)
    extent = "metadata, completeness and sizes" if quick else "every byte"
    checked = f"{extent} of {_count(len(contents['blocks']), 'block')}, {_count(n_images, 'image')}"
    missed = "".join(f"; not checked: {what}" for what in checkup.unchecked)
    return f"{checkup.where}: fine: {checked}{missed}"


def show_info(path: str, terminal: Terminal) -> None:
    """Print what a cache is.

    Raises
    ------
    CacheError
        There is none.
    """
    info = cache_info(open_cache(path))
    if terminal.as_json:
        terminal.document(info)
        return
    shapes = info["shapes"]
    differ = any(each != next(iter(shapes.values())) for each in shapes.values())
    sizes = [
        {
            "block": block,
            **{kind: decimal(size) for kind, size in kinds.items()},
            **({"shape": "x".join(map(str, next(iter(shapes[block].values()))))} if differ else {}),
        }
        for block, kinds in info["blocks"].items()
    ]
    terminal.table(sizes, title=info["path"])
    shards = info["shards"]
    missing = f", {shards['missing']} of {shards['total']} shards missing: vitv1 extract goes on"
    alone = ", without hashes: it serves an experiment of exactly these, and gets no others"
    facts = {
        "complete": "yes" if info["complete"] else f"no{missing}",
        "images": f"{info['images']:,}{'' if info['hashed'] else alone}",
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


def push_cache(
    path: str,
    destination: str,
    terminal: Terminal,
    *,
    blocks: Sequence[int] | None,
    kinds: Sequence[TokenKind] | None,
    packed: bool,
    licence: str | None,
) -> None:
    """Publish a cache or a part of it.

    Raises
    ------
    UserError
        What is asked for is not there, or cannot be published.
    """
    copy = plan_copy(open_cache(path), blocks=blocks, kinds=kinds)
    where = public_name(destination)
    if not (licence or copy.source.provenance.get("license")):
        terminal.note(
            "the card says that the licence of weights and images is not stated: add --license, or "
            "set [cache] license before extraction"
        )
    with terminal.transfer(f"pushing {where}", total=copy.n_bytes) as done:
        card = push(copy, destination, packed=packed, licence=licence, progress=done)
    terminal.result(f"{where}: {decimal(copy.n_bytes)}, every byte checked there; card: {card}")


@contextmanager
def _bar(path: str, terminal: Terminal) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that begins once the number of files is known."""
    with ExitStack() as stack:
        bars: list[Any] = []

        def show(done: int, total: int) -> None:
            if not bars:
                label = f"checking {public_name(path)}"
                bar = terminal.bar(label, total=total, unit="files")
                bars.append(stack.enter_context(bar))
            bars[0](done)

        yield show


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
