"""Copies, on this machine, of what an experiment reads from a URL."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cache import (
    PACKED,
    FeatureCache,
    TokenKind,
    UserError,
    is_url,
    open_cache,
    plan_copy,
    public_name,
    pull,
    recover_copy,
    recover_grown,
    resolve_block,
)
from stages.tokens import KINDS

if TYPE_CHECKING:
    from pipeline.experiment import Experiment
    from pipeline.terminal import Terminal
    from pipeline.variant.inputs import Inputs


@dataclass(frozen=True)
class Located:
    """A cache at a path or URL, and the copy of what is read of it that the settings may ask for.

    Parameters
    ----------
    experiment : Experiment
        The settings.
    path : str
        Where the cache is, or will be.
    model : str
        What results call the backbone.
    everything : bool
        Whether all tokens may be read, rather than those of the readouts.
    inputs : Inputs
        Whose images are read.
    """

    experiment: Experiment
    path: str
    model: str
    everything: bool
    inputs: Inputs

    def open_nearest(self) -> FeatureCache | None:
        """The local copy where it holds all that is read, else the cache; None if neither is there.

        Raises
        ------
        UserError
            A local copy is asked for of what is local.
        CacheError
            As `open_cache`.
        """
        copy = self._copy()
        if copy is not None:
            return copy
        if not is_url(self.path):
            recover_grown(Path(self.path))
        return open_cache(self.path) if is_url(self.path) or Path(self.path).exists() else None

    def copy_what_is_read(self, terminal: Terminal) -> bool:
        """Make the local copy, or add to it what it lacks; whether anything was copied.

        Raises
        ------
        UserError, CacheError
            As `open_nearest` and `pull`.
        """
        if self.experiment.cache.local_copy is None or self._copy() is not None:
            return False
        source, destination = open_cache(self.path), self._copy_path
        blocks, kinds = self._wanted(source)
        if destination.exists():
            held = open_cache(str(destination))
            if held.key == source.key:
                blocks, kinds = blocks | set(held.blocks), kinds | set(held.kinds)
        copy = plan_copy(source, blocks=sorted(blocks), kinds=sorted(kinds))
        with terminal.transfer(f"copying {source.name}", total=copy.n_bytes) as copied:
            pull(copy, destination, progress=copied, extend=True)
        terminal.note(f"{destination}: copied from {source.name}")
        return True

    @property
    def _copy_path(self) -> Path:
        """One place per address, whoever signs in."""
        folder = self.experiment.cache.local_copy
        assert folder is not None
        name = public_name(self.path)
        stem = PurePosixPath(urlsplit(name).path).name.removesuffix(PACKED).removesuffix(".zarr")
        # Fine-tuning may start from any token of any block: its copies are whole, and apart.
        part = "-all" if self.everything else ""
        return folder / f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:12]}{part}.zarr"

    def _copy(self) -> FeatureCache | None:
        """The local copy, where it holds all that is read."""
        folder = self.experiment.cache.local_copy
        if folder is None:
            return None
        if not is_url(self.path):
            raise UserError(
                f"cache.local_copy = {folder}: cache.path = {self.path} is on this machine "
                "already; drop it"
            )
        recover_copy(self._copy_path)
        if not self._copy_path.exists():
            return None
        copy = open_cache(str(self._copy_path))
        blocks, kinds = self._wanted(copy)
        held = blocks <= set(copy.blocks) and kinds <= set(copy.kinds)
        if held and copy.hashed and not self.inputs.absent_recordings:
            held = set(self.inputs.shown.tolist()) <= set(copy.image_ids.tolist())
        return copy if held else None

    def _wanted(self, cache: FeatureCache) -> tuple[set[int], set[TokenKind]]:
        """Blocks and kinds of tokens that the experiment reads."""
        if self.everything:
            return set(cache.blocks), set(cache.kinds)
        readout = self.experiment.readout
        chosen = range(cache.n_blocks) if readout.blocks == "all" else readout.blocks
        joint = [block for blocks in readout.joint_blocks for block in blocks]
        combined = [
            (block, each.tokens)
            for each in readout.combine
            for model, block in each.blocks
            if model == self.model
        ]
        named = (*chosen, *joint, *(block for block, _ in combined))
        kinds = {*readout.kinds(has_cls=cache.has_cls), *(tokens for _, tokens in combined)}
        blocks = {resolve_block(block, cache.n_blocks) for block in named}
        return blocks, {KINDS[tokens] for tokens in kinds}
