"""`vitv1 cache ...`: looking after a feature cache."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cache import TokenKind, UserError
from pipeline.cli.options import (
    AllowCluster,
    AllowPickle,
    Debug,
    ExperimentPath,
    Overrides,
    Quiet,
    loaded,
    local_path,
    speaking,
)
from pipeline.terminal import Terminal
from stages.tokens import KINDS

cache_app = typer.Typer(
    name="cache", help="Check, repair and share feature caches.", no_args_is_help=True
)

CachePath = Annotated[str, typer.Argument(help="A directory, a packed file or a URL.")]

Blocks = Annotated[
    str, typer.Option(help='Such as "3,4" or "-1"; all by default.', show_default=False)
]
Tokens = Annotated[
    str, typer.Option(help=f"Some of {','.join(KINDS)}; all by default.", show_default=False)
]


@cache_app.command()
def verify(
    path: CachePath,
    quick: Annotated[
        bool, typer.Option("--quick", help="Metadata, completeness and sizes only.")
    ] = False,
    recompute: Annotated[
        int, typer.Option(help="Also compute so many random images again and compare.", min=0)
    ] = 0,
    experiment: Annotated[
        Path | None, typer.Option(help="The experiment that made it, for --recompute.")
    ] = None,
    overrides: Overrides = None,
    allow_pickle: AllowPickle = False,
    allow_cluster: AllowCluster = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Check every byte of a cache; exit code 1 and a line per fault where one is wrong."""
    from pipeline.cache_commands import recompute_cache, show_faults, verdict, verify_cache

    terminal = Terminal(quiet)
    if recompute and experiment is None:
        raise UserError("--recompute needs the images and the backbone: add --experiment FILE")
    checkup = verify_cache(path, terminal, quick=quick)
    faults = list(checkup.faults)
    if recompute and experiment is not None and not faults:
        file = loaded(experiment, overrides, allow_pickle, allow_cluster)
        faults += recompute_cache(path, file, terminal, n_images=recompute)
    show_faults(faults, terminal)
    if faults:
        raise typer.Exit(1)
    again = f"; {recompute} images recomputed" if recompute else ""
    terminal.result(f"{verdict(checkup, quick=quick)}{again}")


@cache_app.command()
def repair(
    experiment: ExperimentPath,
    overrides: Overrides = None,
    allow_pickle: AllowPickle = False,
    allow_cluster: AllowCluster = False,
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Extract the damaged shards of an experiment's cache again, and nothing else."""
    from pipeline.cache_commands import repair_caches

    if not repair_caches(
        loaded(experiment, overrides, allow_pickle, allow_cluster), Terminal(quiet)
    ):
        raise typer.Exit(1)


@cache_app.command()
def info(
    path: CachePath,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Say what a cache holds: sizes, completeness, settings, and how it was made."""
    from pipeline.cache_commands import show_info

    with speaking(quiet=False, as_json=as_json) as terminal:
        show_info(path, terminal)


@cache_app.command()
def pack(
    path: CachePath,
    destination: Annotated[
        Path, typer.Argument(metavar="DEST.zarr.zip", help="A new file.", parser=local_path)
    ],
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Pack a complete cache into one file, which is opened like a directory."""
    from pipeline.cache_commands import pack_cache

    pack_cache(path, destination, Terminal(quiet))


@cache_app.command()
def pull(
    path: CachePath,
    destination: Annotated[
        Path, typer.Argument(metavar="DEST", help="A new directory.", parser=local_path)
    ],
    blocks: Blocks = "",
    tokens: Tokens = "",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Copy a cache, or some blocks of it, and check every chunk; goes on where it was stopped."""
    from pipeline.cache_commands import pull_cache

    pull_cache(path, destination, Terminal(quiet), blocks=_blocks(blocks), kinds=_kinds(tokens))


@cache_app.command()
def push(
    path: CachePath,
    destination: Annotated[
        str,
        typer.Argument(
            metavar="URL", help="A folder, s3://BUCKET/PATH or hf://datasets/OWNER/NAME/PATH."
        ),
    ],
    blocks: Blocks = "",
    tokens: Tokens = "",
    packed: Annotated[
        bool, typer.Option("--packed", help="As one file, whose name ends in .zarr.zip.")
    ] = False,
    license: Annotated[
        str,
        typer.Option(
            help="Of weights and images, for the card; else the cache's own.", show_default=False
        ),
    ] = "",
    quiet: Quiet = False,
    debug: Debug = False,
) -> None:
    """Publish a cache, or some blocks of it, with a card, and check every byte of it there."""
    from pipeline.cache_commands import push_cache

    push_cache(
        path,
        destination,
        Terminal(quiet),
        blocks=_blocks(blocks),
        kinds=_kinds(tokens),
        packed=packed,
        licence=license or None,
    )


def _blocks(text: str) -> list[int] | None:
    return [_block(block) for block in text.split(",")] if text else None


def _kinds(text: str) -> list[TokenKind] | None:
    return [_kind(kind) for kind in text.split(",")] if text else None


def _block(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise UserError(f'--blocks: {text!r} is no block number; write such as "3,4"') from None


def _kind(text: str) -> TokenKind:
    if text.strip() not in KINDS:
        raise UserError(f"--tokens: {text!r} is none of {', '.join(KINDS)}; choose from those")
    return KINDS[text.strip()]
