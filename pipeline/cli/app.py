"""The command line: parsing, exit codes, and nothing else."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cache import UserError
from pipeline.cli.cache import cache_app
from pipeline.cli.options import AsJson, Debug, ExperimentPath, Overrides, Quiet

if TYPE_CHECKING:
    from stages.failures import StepsFailed

#: Exit code after Ctrl-C, as shells have it.
INTERRUPTED = 130

app = typer.Typer(
    name="vitv1",
    help="Predict mouse V1 responses from the tokens of Vision Transformers.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(cache_app)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"vitv1 {version('vitv1')}")
        raise typer.Exit


@app.callback()
def vitv1(
    version: Annotated[
        bool, typer.Option("--version", help="Say the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Predict mouse V1 responses from the tokens of Vision Transformers."""


@app.command()
def run(
    experiment: ExperimentPath,
    overrides: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and stop; needs no data.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Do everything the experiment names, skipping what is up to date."""
    from pipeline import commands
    from pipeline.experiment import load_experiment
    from pipeline.terminal import Terminal

    file, terminal = load_experiment(experiment, overrides or []), Terminal(quiet, as_json)
    if dry_run:
        commands.show_dry_run(file, terminal)
    else:
        commands.run(file, terminal)


@app.command()
def extract(
    experiment: ExperimentPath,
    overrides: Overrides = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete a cache of other settings at the same path.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Stage one: images through the frozen backbone into the cache."""
    from pipeline import commands
    from pipeline.experiment import load_experiment
    from pipeline.terminal import Terminal

    file = load_experiment(experiment, overrides or [])
    commands.extract(file, Terminal(quiet=quiet), replace=replace)


@app.command()
def fit(
    experiment: ExperimentPath,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Stage two: readouts of every neuron from the cache, and their FEVE."""
    _run_stage("fit", experiment, overrides, quiet=quiet, as_json=as_json)


@app.command()
def finetune(
    experiment: ExperimentPath,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the backbone's last layers with the readouts, starting from the frozen ones."""
    _run_stage("finetune", experiment, overrides, quiet=quiet, as_json=as_json)


@app.command()
def baseline(
    experiment: ExperimentPath,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """CNNs trained from scratch on the responses: the fullmodel, and one minimodel per neuron."""
    _run_stage("baseline", experiment, overrides, quiet=quiet, as_json=as_json)


@app.command()
def report(
    experiment: ExperimentPath,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Figures and report.html from the result tables."""
    from pipeline import commands
    from pipeline.experiment import load_experiment
    from pipeline.terminal import Terminal

    commands.report(load_experiment(experiment, overrides or []), Terminal(quiet, as_json))


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Output folder of a run.")],
    run_b: Annotated[Path, typer.Argument(help="Output folder of another run.")],
    output: Annotated[
        Path | None, typer.Option(help="Folder for table and scatter; runs/compare-A-B by default.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Two runs, neuron by neuron: differences of FEVE with intervals, and a scatter."""
    from pipeline import commands
    from pipeline.terminal import Terminal

    folder = output or Path("runs") / f"compare-{run_a.name}-{run_b.name}"
    commands.compare(run_a, run_b, folder, Terminal(quiet, as_json))


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="Which data, such as fx10.")],
    directory: Annotated[Path, typer.Argument(help="Folder for the files; made if absent.")],
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fetch published data, resuming and verifying."""
    from pipeline.download import download as fetch

    for path in fetch(name, directory, quiet=quiet):
        typer.echo(path)


def _run_stage(
    name: str, experiment: Path, overrides: list[str] | None, *, quiet: bool, as_json: bool
) -> None:
    """Do one stage of an experiment."""
    from pipeline import commands
    from pipeline.experiment import load_experiment
    from pipeline.terminal import Terminal

    file = load_experiment(experiment, overrides or [])
    commands.run(file, Terminal(quiet, as_json), only=name)


def main(arguments: list[str] | None = None) -> int:
    """Run a command and return its exit code: 0 done, 1 failed while running, 2 bad input.

    130 after Ctrl-C, as shells have it.
    """
    given = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in given
    try:
        code = app(args=given, prog_name="vitv1", standalone_mode=False)
        return _interrupted() if code == INTERRUPTED else int(code or 0)
    except typer.Exit as stop:
        return int(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        return _interrupted()
    except UserError as error:
        if debug:
            raise
        return _fail(str(error), 2)
    except Exception as error:
        return _failed(error, debug=debug)


def _failed(error: Exception, *, debug: bool) -> int:
    """Exit code and message of an error that is not known to be the input's."""
    from stages.failures import StepsFailed

    if isinstance(error, StepsFailed):
        return _fail_steps(error, debug=debug)
    usage = _usage_message(error)
    if usage is not None:
        return _fail(usage, 2)
    if debug:
        raise error
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return _fail(f"no space left on the disk ({error}); free some and repeat the command", 1)
    return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1)


def _interrupted() -> int:
    return _fail("interrupted; the same command goes on from here", INTERRUPTED)


def _fail_steps(error: StepsFailed, *, debug: bool) -> int:
    """A line for everything that failed, and what to do."""
    for failed in error.failed:
        if debug and failed.details:
            print(failed.details, file=sys.stderr)
        _fail(f"{failed.name} failed: {failed.reason}", 1)
    return _fail(f"{error}; the same command tries again and keeps all others", 1)


def _usage_message(error: Exception) -> str | None:
    """What typer says of a wrong command line, or None for any other error."""
    text = getattr(error, "format_message", None)
    return f"{text()} Try vitv1 --help" if callable(text) else None


def _fail(message: str, code: int) -> int:
    print(f"vitv1: {' '.join(message.split())}", file=sys.stderr)
    return code


def script() -> None:
    """Entry point of the `vitv1` command."""
    sys.exit(main())
