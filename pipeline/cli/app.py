"""The commands, and their options and arguments."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cache import UserError
from pipeline.cli.cache import cache_app
from pipeline.cli.options import (
    AllowCluster,
    AllowPickle,
    AsJson,
    Debug,
    ExperimentPath,
    Overrides,
    Quiet,
    Verbose,
    Yes,
    loaded,
    local_path,
    speaking,
)
from pipeline.terminal import Terminal

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
    allow_pickle: AllowPickle = False,
    allow_cluster: AllowCluster = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and stop; needs no data.")
    ] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate", help="With --dry-run: measure this machine, some 15 s, for the price."
        ),
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    debug: Debug = False,
) -> None:
    """Do everything the experiment names, skipping what is up to date."""
    from pipeline import commands

    if calibrate and not dry_run:
        raise UserError("--calibrate prices a plan: add --dry-run")
    with speaking(quiet, as_json, verbose) as terminal:
        file = loaded(experiment, overrides, allow_pickle, allow_cluster)
        if dry_run:
            commands.show_dry_run(file, terminal, calibrate=calibrate)
        else:
            commands.run(file, terminal, yes=yes)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="An experiment, or a recording or images alone.")],
    overrides: Overrides = None,
    allow_pickle: AllowPickle = False,
    allow_cluster: AllowCluster = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """What is understood of your data, with every doubt and a picture; computes nothing."""
    from pipeline.check.check import check as told
    from pipeline.check.check import file_alone

    with speaking(quiet, as_json) as terminal:
        if file.suffix == ".toml":
            told(loaded(file, overrides, allow_pickle, allow_cluster), terminal)
        else:
            told(file_alone(file), terminal)


@app.command()
def extract(
    experiment: ExperimentPath,
    overrides: Overrides = None,
    allow_pickle: AllowPickle = False,
    allow_cluster: AllowCluster = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Delete a cache of other settings at the same path.")
    ] = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Stage one: images through the frozen backbone into the cache."""
    from pipeline import commands

    commands.extract(
        loaded(experiment, overrides, allow_pickle, allow_cluster), Terminal(quiet), replace=replace
    )


def _add_command(name: str, about: str) -> None:
    """A command of an experiment's results: a stage's, or the report's."""

    @app.command(name, help=about)
    def results(
        experiment: ExperimentPath,
        overrides: Overrides = None,
        allow_pickle: AllowPickle = False,
        allow_cluster: AllowCluster = False,
        yes: Yes = False,
        as_json: AsJson = False,
        quiet: Quiet = False,
        verbose: Verbose = False,
        debug: Debug = False,
    ) -> None:
        from pipeline import commands

        with speaking(quiet, as_json, verbose) as terminal:
            file = loaded(experiment, overrides, allow_pickle, allow_cluster)
            if name == "report":
                commands.report(file, terminal)
            else:
                commands.run(file, terminal, only=name, yes=yes)


for _name, _about in {
    "fit": "Stage two: readouts of every neuron from the cache, and their FEVE.",
    "finetune": (
        "Train the backbone's last layers with the readouts, starting from the frozen ones."
    ),
    "baseline": (
        "CNNs trained from scratch on the responses: the fullmodel, and one minimodel per neuron."
    ),
    "report": "Figures and report.html from the result tables.",
}.items():
    _add_command(_name, _about)


@app.command()
def compare(
    run_a: Annotated[Path, typer.Argument(help="Output folder of a run.")],
    run_b: Annotated[Path, typer.Argument(help="Output folder of another run.")],
    output: Annotated[
        Path | None,
        typer.Option(
            help="Folder for table and figure; runs/compare-A-B by default.", parser=local_path
        ),
    ] = None,
    recordings: Annotated[
        tuple[str, str] | None,
        typer.Option(help="A recording of each run, to compare as two distributions."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Two runs, neuron by neuron: differences of FEVE with intervals, and a scatter."""
    from pipeline import commands

    folder = output or Path("runs") / f"compare-{run_a.name}-{run_b.name}"
    with speaking(quiet, as_json) as terminal:
        commands.compare(run_a, run_b, folder, terminal, recordings=recordings)


@app.command()
def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Output folder of a run.")],
    images: Annotated[Path, typer.Argument(help="Raw images, in any format that is read.")],
    output: Annotated[
        Path,
        typer.Argument(
            metavar="OUT", help="A new .npz, .zarr or .parquet file.", parser=local_path
        ),
    ],
    recording: Annotated[str | None, typer.Option(help="Where the run has several.")] = None,
    model: Annotated[str | None, typer.Option(help="Such as cnn_fullmodel.")] = None,
    tuning: Annotated[str | None, typer.Option(help="Such as frozen or last2.")] = None,
    tokens: Annotated[str | None, typer.Option(help="patch or cls.")] = None,
    block: Annotated[int | None, typer.Option(help="0-based.")] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Rates for any images, from the condition that validation chooses of those asked for."""
    from pipeline.predict import predict_images

    columns = {"recording": recording, "model": model, "tuning": tuning}
    named = columns | {"tokens": tokens, "block": block}
    asked = {name: value for name, value in named.items() if value is not None}
    with speaking(quiet, as_json) as terminal:
        predict_images(run_folder, images, output, terminal, asked=asked)


@app.command()
def backbones(
    pattern: Annotated[str, typer.Argument(help="Part of a name; * is anything.")] = "",
    size: Annotated[
        str, typer.Option(metavar="ROWSxCOLUMNS", help="What the backbone sees, in pixels.")
    ] = "64x128",
    as_json: AsJson = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Models of timm that can be the backbone: grids, channels and weights of every block."""
    from pipeline.backbones import list_backbones

    numbers = size.split("x")
    if len(numbers) != 2 or not all(n.isdecimal() and 0 < int(n) < 2**13 for n in numbers):
        raise UserError(f"--size = {size!r}: give rows and columns, such as 64x128")
    with speaking(quiet, as_json) as terminal:
        list_backbones(pattern, (int(numbers[0]), int(numbers[1])), terminal)


@app.command()
def download(
    name: Annotated[str, typer.Argument(help="Which data, such as fx10.")],
    directory: Annotated[
        Path, typer.Argument(help="Folder for the files; made if absent.", parser=local_path)
    ],
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Fetch published data, resuming and verifying."""
    from pipeline.download import download as fetch

    for path in fetch(name, directory, quiet=quiet):
        typer.echo(path)
