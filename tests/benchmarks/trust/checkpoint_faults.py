"""Faulty checkpoints: training goes on from the one before, or the start, to the same result."""

from __future__ import annotations

import shutil
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from support.line import Line, descend, phase, settings, weights

from cache import UserError
from stages.training.checkpoints import Checkpoint

KINDS = (
    "flip", "cut", "zeros", "longer", "emptied", "gone", "of another training", "the one before",
)  # fmt: skip


def trained(epochs: int, checkpoint: Checkpoint | None, *, dropout: float = 0.3) -> list:
    """A line after so many epochs: every epoch's order of trials and its masks count."""
    line = Line(dropout=dropout)
    descend(line, [phase(line, epochs)], settings(patience=99), checkpoint=checkpoint)
    return [tensor.clone() for tensor in weights(line)]


def checkpoint_trials(folder: Path, n_faults: int, *, seed: int = 0) -> Counter[str]:
    """Damage the last checkpoint of a training, in every other trial of two; then go on.

    Counts faults; those that were told by a warning or refused; those after which training came to
    the same weights; and those that are "silent": to others.
    """
    checkpoint, rng = Checkpoint(folder / "abc.pt", "abc"), np.random.default_rng(seed)
    expected = trained(4, None)
    trained(2, checkpoint)
    other = Checkpoint(folder / "other/abd.pt", "abd")
    trained(2, other, dropout=0.1)
    files = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    counts = Counter(dict.fromkeys(("faults", "told", "same", "silent"), 0))
    for number in range(n_faults):
        for path in folder.glob("abc.pt*"):
            path.unlink()
        for path, content in files.items():
            path.write_bytes(content)
        kind = KINDS[number % len(KINDS)]
        _damage(checkpoint.path, other.path, kind, rng)
        if number % 2:
            checkpoint.path.with_name("abc.pt.before").unlink()
        counts["faults"] += 1
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                ended = trained(4, checkpoint)
            except UserError:
                counts["told"] += 1
                continue
        counts["told"] += bool(said)
        same = all(torch.equal(a, b) for a, b in zip(ended, expected, strict=True))
        counts["same" if same else "silent"] += 1
        if not same:
            print(f"silent: checkpoint {kind}", flush=True)
    return counts


def _damage(path: Path, other: Path, kind: str, rng: Generator) -> None:
    content = bytearray(path.read_bytes())
    place = int(rng.integers(len(content)))
    if kind == "flip":
        content[place] ^= 1 << rng.integers(8)
    elif kind == "cut":
        del content[place:]
    elif kind == "zeros":
        content[place : place + 40] = bytes(len(content[place : place + 40]))
    elif kind == "longer":
        content += rng.bytes(rng.integers(1, 40))
    elif kind == "emptied":
        content = bytearray()
    elif kind == "gone":
        path.unlink()
        return
    elif kind == "of another training":
        shutil.copyfile(other, path)
        return
    elif kind == "the one before":
        shutil.copyfile(path.with_name(f"{path.name}.before"), path)
        return
    path.write_bytes(content)
