"""The command line: parsing, exit codes, and nothing else."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Annotated

import typer

from cache import UserError
from pipeline.cli.cache import cache_app
from pipeline.cli.options import AsJson, Debug, ExperimentPath, Overrides, Quiet
from pipeline.experiment import load_experiment
from pipeline.terminal import Terminal
from stages.failures import ConditionsFailed, StepsFailed

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
    from pipeline.commands import run_experiment, show_dry_run

    file, terminal = load_experiment(experiment, overrides or []), Terminal(quiet, as_json)
    if dry_run:
        show_dry_run(file, terminal)
    else:
        run_experiment(file, terminal)


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
    from pipeline.commands import extract_all

    file = load_experiment(experiment, overrides or [])
    extract_all(file, Terminal(quiet=quiet), replace=replace)


@app.command()
def fit(
    experiment: ExperimentPath,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Stage two: readouts of every neuron from the cache, and their FEVE."""
    from pipeline.commands import fit_and_show

    fit_and_show(load_experiment(experiment, overrides or []), Terminal(quiet, as_json))


@app.command()
def finetune(
    experiment: ExperimentPath,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Train the backbone's last stages with the readouts, starting from the frozen ones."""
    from pipeline.commands import finetune_and_show

    finetune_and_show(load_experiment(experiment, overrides or []), Terminal(quiet, as_json))


@app.command()
def baseline(
    experiment: ExperimentPath,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """CNNs trained from scratch on the responses: the fullmodel, and one minimodel per neuron."""
    from pipeline.commands import baseline_and_show

    baseline_and_show(load_experiment(experiment, overrides or []), Terminal(quiet, as_json))


@app.command()
def report(
    experiment: ExperimentPath,
    overrides: Overrides = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Figures and report.html from the result tables."""
    from pipeline.commands import show_report

    show_report(load_experiment(experiment, overrides or []), Terminal(quiet, as_json))


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
    from pipeline.commands import show_comparison

    folder = output or Path("runs") / f"compare-{run_a.name}-{run_b.name}"
    show_comparison(run_a, run_b, folder, Terminal(quiet, as_json))


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
    except (ConditionsFailed, StepsFailed) as error:
        return _fail_steps(error, debug=debug)
    except Exception as error:
        usage = _usage_message(error)
        if usage is not None:
            return _fail(usage, 2)
        if debug:
            raise
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            return _fail(
                f"no space left on the disk ({error}); free some and repeat the command", 1
            )
        return _fail(f"{type(error).__name__}: {error} (--debug shows where)", 1)


def _interrupted() -> int:
    return _fail("interrupted; the same command goes on from here", INTERRUPTED)


def _fail_steps(error: ConditionsFailed | StepsFailed, *, debug: bool) -> int:
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
