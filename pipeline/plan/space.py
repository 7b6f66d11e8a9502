"""Room that a plan takes on disks, estimated before anything starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cache import disk_of, free_space
from stages.costs import COPIES, FLOAT
from stages.settings import readable

if TYPE_CHECKING:
    from pipeline.plan.steps import Step

#: Numbers of a readout besides its weights, and columns of its neuron's row, about.
_COLUMNS = 40


def results_bytes(step: Step) -> int:
    """Bytes of a condition's results about: readouts, predictions, tuned weights, checkpoints."""
    work, condition = step.work, step.condition
    if condition is None or work.neurons is None:
        return 0
    axes = width = 0
    if work.tokens is not None:
        block = work.tokens.blocks[condition.block or 0]
        width, axes = block.n_channels, sum(block.grid) + block.n_channels
    tuned = work.tuned_blocks * (12 * width**2 + 13 * width)
    # A checkpoint holds best and last weights with their moments, and so does the one before.
    kept = tuned * (1 + 2 * COPIES)
    predicted = 2 * (work.test_images or 0)
    return FLOAT * (kept + work.neurons * (axes + _COLUMNS + predicted))


def shortages(steps: Iterable[Step], output: Path) -> list[str]:
    """Disks that have less room than caches and results together take, one line each."""
    needed: Counter[int] = Counter()
    places: dict[int, Path] = {}
    for step in steps:
        variant = step.variant
        if step.state == "up to date" or variant is None:
            continue
        place, n_bytes = output, results_bytes(step)
        if step.condition is None:
            if not variant.cache.is_writable:
                continue
            place, n_bytes = Path(variant.cache.path), step.work.n_bytes or 0
        disk = disk_of(place)
        needed[disk] += n_bytes
        places.setdefault(disk, place)
    return [
        f"the plan takes about {readable(needed[disk])} on the disk of {place}, which has "
        f"{readable(free)} free"
        for disk, place in places.items()
        if needed[disk] > (free := free_space(place))
    ]
