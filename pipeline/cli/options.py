"""Arguments and options that several commands share, and the experiment that they name."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cache import UserError, is_url, public_name
from pipeline.terminal import Terminal

if TYPE_CHECKING:
    from pipeline.experiment import ExperimentFile

ExperimentPath = Annotated[Path, typer.Argument(help="The experiment, a TOML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a setting; may be repeated."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars and no notes.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Results as one JSON document on stdout, for scripts.")
]
Verbose = Annotated[
    bool, typer.Option("--verbose", "-v", help="Also every step of the solvers, in notes.")
]
Yes = Annotated[
    bool, typer.Option("--yes", help="Begin what takes long or may fill a disk without asking.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle", help="Consent to recording.allow_pickle = true: only for files you trust."
    ),
]
AllowCluster = Annotated[
    bool,
    typer.Option(
        "--allow-cluster",
        envvar="VITV1_ALLOW_CLUSTER",
        help="Consent to run.scheduler, and to directives, prologue and options of [run.slurm] and "
        "[run.lsf]: only in files you trust.",
    ),
]


def local_path(text: str) -> Path:
    """A place to write to, refused where it is a URL."""
    if is_url(text):
        raise UserError(f"{public_name(text)} is a URL, and nothing is written there: name a path")
    return Path(text)


def loaded(
    path: Path, overrides: list[str] | None, allow_pickle: bool, allow_cluster: bool
) -> ExperimentFile:
    """The experiment of a command line; the schema is imported when there is one to read."""
    from pipeline.experiment import load_experiment

    given = {"--allow-pickle": allow_pickle, "--allow-cluster": allow_cluster}
    allowed = [flag for flag, is_given in given.items() if is_given]
    return load_experiment(path, overrides or [], allowed=allowed)


@contextmanager
def speaking(quiet: bool, as_json: bool, verbose: bool = False) -> Iterator[Terminal]:
    """The terminal of a command.

    Where a JSON document is asked for, standard output is for it alone: what libraries, in this
    process or in workers, print there goes to standard error.
    """
    with ExitStack() as stack:
        if not as_json:
            yield Terminal(quiet, verbose=verbose)
            return
        stdout = sys.stdout
        # A test's or a notebook's stream has no file.
        with suppress(OSError):
            descriptor = stdout.fileno()
            stdout.flush()
            stdout = stack.enter_context(os.fdopen(os.dup(descriptor), "w", encoding="utf-8"))
            stack.callback(os.dup2, os.dup(descriptor), descriptor)
            os.dup2(sys.stderr.fileno(), descriptor)
        stack.enter_context(redirect_stdout(sys.stderr))
        yield Terminal(quiet, as_json, stdout, verbose)
