"""Extraction of a variant's cache."""

from __future__ import annotations

import getpass
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from cache import disk_of, require_space
from pipeline.results import hardware, now, versions
from pipeline.workers import device_of, workplace
from stages.executors import default_memory_limit, resolve_device
from stages.extract import Extraction, extract_task, worker_memory
from stages.stage import Crew

if TYPE_CHECKING:
    from pipeline.plan.steps import Step
    from pipeline.terminal import Terminal
    from pipeline.variant.variant import Variant


def prepare(variant: Variant, *, hashed: bool | None = None) -> Extraction:
    """A variant's tokens, ready to be computed; `hashed` as of `Variant.extraction`.

    Raises
    ------
    UserError
        Bad input or settings.
    """
    run = variant.settings.run
    # A cluster's workers compute; this process only needs to know the backbone's shape.
    device = "cpu" if run.executor == "dask" else resolve_device(run.device)
    return variant.extraction(
        device=device,
        hashed=hashed,
        provenance={
            "created": now(),
            "user": getpass.getuser(),
            "versions": versions(),
            "hardware": hardware(device),
        },
    )


def check_space(steps: Iterable[Step]) -> None:
    """Refuse extractions that the disks of their caches have no room for.

    Raises
    ------
    CacheError
        The message says how much is needed and how much is free.
    """
    needed: Counter[int] = Counter()
    for step in steps:
        variant = step.variant
        if step.state == "up to date" or variant is None or not variant.cache.is_writable:
            continue
        path = Path(variant.cache.path)
        disk = disk_of(path)
        # Of a cache that is replaced the room is free by then.
        if not (variant.replaces and path.exists()):
            needed[disk] += step.work.n_bytes or 0
        instead = "name another [cache] path, or fewer images"
        require_space(needed[disk], path, instead=instead)


def extract_variant(variant: Variant, terminal: Terminal) -> None:
    """Make or finish the cache of one variant.

    Raises
    ------
    UserError
        Bad input or settings, a cache of other settings, or another writer at work.
    """
    with terminal.busy("preparing the backbone"):
        task = prepare(variant)
    fill(variant, task, terminal, replace=variant.replaces)


def fill(variant: Variant, task: Extraction, terminal: Terminal, *, replace: bool = False) -> None:
    """Compute what a cache lacks, and say what was done."""
    run, n_images = variant.settings.run, len(task.stimuli)
    with ExitStack() as stack:
        executor = None
        if run.executor == "dask":
            # A core computes one shard, in a process that holds two.
            crew = Crew(workers=n_images, needed=worker_memory)
            place = workplace(run, variant.output, crew, terminal)
            executor, _ = stack.enter_context(place)
        label = f"extracting {task.path}"
        extracted = stack.enter_context(terminal.bar(label, total=n_images, unit="images"))
        computed = extract_task(
            task,
            replace=replace,
            memory_limit=run.memory_limit or default_memory_limit(),
            executor=executor,
            device=device_of(run),
            progress=extracted,
        )
    done = f"{computed} images extracted, {n_images} in the cache"
    terminal.note(f"{task.path}: {done if computed else f'up to date, {n_images} images'}")
