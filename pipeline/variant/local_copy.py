"""Copies, on this machine, of what an experiment reads from a URL."""

from __future__ import annotations

import hashlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cache import (
    PACKED,
    FeatureCache,
    TokenKind,
    UserError,
    beside,
    is_url,
    open_cache,
    plan_copy,
    public_name,
    pull,
    resolve_block,
)
from stages.tokens import KINDS

if TYPE_CHECKING:
    from pipeline.experiment import Experiment
    from pipeline.terminal import Terminal


def open_nearest(experiment: Experiment, path: str, *, everything: bool) -> FeatureCache | None:
    """The experiment's cache: its local copy where that holds all that is read, else the cache.

    None where `path` names no file or folder of this machine.

    Parameters
    ----------
    everything : bool
        Whether all tokens may be read, rather than those of the readouts.

    Raises
    ------
    UserError
        A local copy is asked for of what is local.
    CacheError
        As `open_cache`.
    """
    copy = _copy(experiment, path, everything)
    if copy is not None:
        return copy
    return open_cache(path) if is_url(path) or Path(path).exists() else None


def copy_what_is_read(
    experiment: Experiment, path: str, terminal: Terminal, *, everything: bool
) -> bool:
    """Make the local copy that the experiment asks for, or add to it what it lacks.

    Returns
    -------
    bool
        Whether anything was copied.

    Raises
    ------
    UserError, CacheError
        As `open_nearest` and `pull`.
    """
    if experiment.cache.local_copy is None or _copy(experiment, path, everything) is not None:
        return False
    source, destination = open_cache(path), _copy_path(experiment, path, everything)
    blocks, kinds = _wanted(experiment, source, everything)
    if destination.exists():
        held = open_cache(str(destination))
        blocks, kinds = blocks | set(held.blocks), kinds | set(held.kinds)
        # What is there counts as the beginning of a larger copy, and is not fetched again.
        destination.rename(beside(destination, ".partial"))
    copy = plan_copy(source, blocks=sorted(blocks), kinds=sorted(kinds))
    with terminal.transfer(f"copying {source.name}", total=copy.n_bytes) as copied:
        pull(copy, destination, progress=copied)
    terminal.note(f"{destination}: copied from {source.name}")
    return True


def _copy_path(experiment: Experiment, url: str, everything: bool) -> Path:
    """One place per address, whoever signs in."""
    folder = experiment.cache.local_copy
    assert folder is not None
    name = public_name(url)
    stem = PurePosixPath(urlsplit(name).path).name.removesuffix(PACKED).removesuffix(".zarr")
    # Fine-tuning may start from any token of any block: its copies are whole, and apart.
    part = "-all" if everything else ""
    return folder / f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:12]}{part}.zarr"


def _copy(experiment: Experiment, path: str, everything: bool) -> FeatureCache | None:
    """The local copy, where it holds all that is read."""
    if experiment.cache.local_copy is None:
        return None
    if not is_url(path):
        raise UserError(
            f"cache.local_copy = {experiment.cache.local_copy}: cache.path = {path} is on this "
            "machine already; drop it"
        )
    destination = _copy_path(experiment, path, everything)
    if not destination.exists():
        return None
    copy = open_cache(str(destination))
    blocks, kinds = _wanted(experiment, copy, everything)
    return copy if blocks <= set(copy.blocks) and kinds <= set(copy.kinds) else None


def _wanted(
    experiment: Experiment, cache: FeatureCache, everything: bool
) -> tuple[set[int], set[TokenKind]]:
    """Blocks and kinds of tokens that the experiment reads."""
    if everything:
        return set(cache.blocks), set(cache.kinds)
    readout = experiment.readout
    chosen = range(cache.n_blocks) if readout.blocks == "all" else readout.blocks
    joint = [block for blocks in readout.joint_blocks for block in blocks]
    blocks = {resolve_block(block, cache.n_blocks) for block in (*chosen, *joint)}
    return blocks, {KINDS[tokens] for tokens in readout.tokens}
