"""`vitv1 cache verify` and `vitv1 cache repair`: is this cache whole, and make it so."""

from __future__ import annotations

from collections.abc import Sequence

from cache import (
    CacheError,
    Checkup,
    Fault,
    FeatureCache,
    check_chunks,
    check_metadata,
    differences,
    open_cache,
    prepare_repair,
)
from pipeline.experiment import Experiment, ExperimentFile
from pipeline.run.extract import fill, one_per_cache, prepare_extraction
from pipeline.terminal import Terminal


def verify_cache(path: str, terminal: Terminal, *, quick: bool) -> Checkup:
    """Check a cache, with a progress bar.

    Raises
    ------
    CacheError
        There is none.
    """
    checkup = check_metadata(path)
    if not quick:
        _check_with_bar(checkup, terminal)
    return checkup


def recompute_cache(
    path: str, file: ExperimentFile, terminal: Terminal, *, n_images: int
) -> list[Fault]:
    """Compute random images again and compare; faults where the tokens differ.

    Raises
    ------
    UserError
        A cache of other settings than the experiment's, or images that are not at hand.
    """
    from stages.extract.recompute import recompute

    cache = open_cache(path)
    variants = list(one_per_cache(file))
    alike = [variant for variant in variants if _is_alike(variant, cache)]
    made = prepare_extraction(file, (alike or variants)[0], terminal)
    differing = differences(made.settings, cache.settings)
    if differing:
        raise CacheError(
            f"{cache.name} holds other tokens than {file.path} names ({'; '.join(differing)}): "
            "name the experiment that made it"
        )
    with terminal.bar("recomputing", total=n_images, unit="images") as done:
        return recompute(
            cache,
            made.stimuli,
            made.backbone,
            made.preprocessing,
            n_images=n_images,
            progress=done,
        )


def repair_cache(file: ExperimentFile, experiment: Experiment, terminal: Terminal) -> bool:
    """Mend one variant's cache; False where something is left to a person.

    Raises
    ------
    UserError
        No cache, one of other settings, another writer, or images that are not at hand.
    """
    path = file.cache_path(experiment)
    check_metadata(path)
    made = prepare_extraction(file, experiment, terminal)
    done = prepare_repair(
        made.path,
        settings=made.settings,
        provenance=made.provenance,
        image_ids=made.stimuli.ids,
        shape=made.backbone.token_shape(made.dtype),
        checking=lambda checkup: _check_with_bar(checkup, terminal),
    )
    for name in done.rewritten:
        terminal.result(f"{name}: written anew")
    fill(made, terminal)
    left = verify_cache(path, terminal, quick=False).faults
    report(left, terminal)
    if not left:
        terminal.result(f"{path}: {_count(len(done.shards), 'shard')} extracted again; fine now")
    return not left


def report(faults: Sequence[Fault], terminal: Terminal) -> None:
    """Print every fault, one per line, and what helps."""
    for fault in faults:
        terminal.result(str(fault))
    remedies = {fault.remedy for fault in faults}
    if "extract" in remedies:
        terminal.note("vitv1 extract EXPERIMENT.toml writes what is missing")
    if "repair" in remedies:
        terminal.note("vitv1 cache repair EXPERIMENT.toml, or a new copy, mends what is damaged")


def summary(checkup: Checkup, *, quick: bool) -> str:
    """One line on a cache without faults."""
    contents = (checkup.attributes or {})["contents"]
    n_images = 0 if checkup.ids is None else len(checkup.ids)
    extent = "metadata, completeness and sizes" if quick else "every byte"
    checked = f"{extent} of {_count(len(contents['blocks']), 'block')}, {_count(n_images, 'image')}"
    missed = "".join(f"; not checked: {what}" for what in checkup.unchecked)
    return f"{checkup.where}: fine: {checked}{missed}"


def _is_alike(experiment: Experiment, cache: FeatureCache) -> bool:
    """Whether this is the variant of a sweep that a cache may be of."""
    wanted = (experiment.backbone.name, list(experiment.stimuli.size))
    backbone, preprocessing = cache.settings["backbone"], cache.settings["preprocessing"]
    return wanted == (backbone["name"], preprocessing["input_size"])


def _check_with_bar(checkup: Checkup, terminal: Terminal) -> None:
    label = f"checking {checkup.where}"
    with terminal.bar(label, total=len(checkup.files), unit="files") as done:
        check_chunks(checkup, progress=done)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
