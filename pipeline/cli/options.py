"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ExperimentPath = Annotated[Path, typer.Argument(help="The experiment, a TOML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="TABLE.KEY=VALUE", help="Override a setting; may be repeated."),
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress bars and no notes.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Results as one JSON document on stdout, for scripts.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
