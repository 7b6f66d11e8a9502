"""The run's folder, held by the one command that writes there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from cache import discard_unplaced, folder_lock, is_url
from stages.readouts import discard_leftovers

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from pipeline.experiment import ExperimentFile


@contextmanager
def output_held(file: ExperimentFile) -> Iterator[None]:
    """Keep other commands from writing to the run's folder, and remove what a killed one left.

    Raises
    ------
    CacheError
        Another command writes there; the message says which, and how to run both.
    """
    instead = f"or give this run a folder of its own, such as {own_folder(file)}"
    with folder_lock(file.output, setting="run.output", instead=instead):
        discard_leftovers(file.output)
        for folder in (file.output, *file.output.glob("*"), *file.output.glob("*/*")):
            if folder.is_dir() and not folder.is_symlink():
                discard_unplaced(folder)
        yield


def caches_held(file: ExperimentFile) -> AbstractContextManager[None]:
    """The same for a command that writes caches alone; nothing where it leaves the folder alone."""
    return output_held(file) if writes_caches(file) else nullcontext()


def writes_caches(file: ExperimentFile) -> bool:
    """Whether a command that writes caches alone writes to the run's folder."""
    output = file.output.resolve()
    paths = [path for variant in file.variants for path in file.cache_paths(variant)]
    writes = any(output in Path(path).resolve().parents for path in paths if not is_url(path))
    # Workers of dask leave their files to each other in the run's folder.
    return writes or any(variant.run.executor == "dask" for variant in file.variants)


def own_folder(file: ExperimentFile) -> str:
    """The option that gives a run of other settings its own folder."""
    seeds = sorted({variant.run.seed for variant in file.variants})
    return f"--set run.output={file.output}-seed{'-'.join(map(str, seeds))}"
