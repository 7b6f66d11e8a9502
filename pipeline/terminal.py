"""What a person sees while commands run: progress bars with rate and time left, and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import pandas as pd
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text


class RateColumn(ProgressColumn):
    """Units per second."""

    def render(self, task: Task) -> Text:
        """Such as "94 images/s", blank before the first."""
        speed = task.finished_speed or task.speed
        unit = task.fields["unit"]
        if not speed:
            return Text("")
        return Text(f"{speed:.0f} {unit}/s" if speed >= 10 else f"{speed:.2f} {unit}/s")


class Advance(Protocol):
    """Moves a progress bar."""

    def __call__(self, done: int, text: str | None = None) -> None:
        """So many units are done; `text` is the bar's label from now on."""


@dataclass(frozen=True)
class Terminal:
    """Where messages and bars go: bars and notes to stderr, results to stdout.

    Parameters
    ----------
    quiet : bool
        No bars and no notes; results and errors only.
    """

    quiet: bool = False

    def note(self, message: str) -> None:
        """One line of what is happening."""
        if not self.quiet:
            Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(message)

    def result(self, message: str) -> None:
        """One line on stdout."""
        Console(soft_wrap=True, highlight=False, markup=False).print(message)

    @contextmanager
    def bar(self, label: str, *, total: int, unit: str) -> Iterator[Advance]:
        """A progress bar; yields a function that is called with each number of finished units.

        With a second argument it changes the label. Nothing is drawn where stderr is no terminal.
        """
        console = Console(stderr=True)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            RateColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=self.quiet or not console.is_terminal,
        ) as progress:
            task = progress.add_task(label, total=total, unit=unit)
            yield lambda done, text=None: progress.update(task, advance=done, description=text)

    @contextmanager
    def transfer(self, label: str, *, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar in bytes; yields a function that is called with numbers of bytes."""
        console = Console(stderr=True)
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=self.quiet or not console.is_terminal,
        ) as progress:
            task = progress.add_task(label, total=total)
            yield lambda n_bytes: progress.update(task, advance=n_bytes)

    def table(self, frame: pd.DataFrame, *, title: str) -> None:
        """A table of results on stdout."""
        table = Table(title=title)
        for column in frame.columns:
            numeric = pd.api.types.is_numeric_dtype(frame[column])
            table.add_column(str(column), justify="right" if numeric else "left", no_wrap=True)
        for row in frame.itertuples(index=False):
            table.add_row(*(_cell(value) for value in row))
        console = Console()
        # Lines of a table that is piped into a file are not cut at 80 columns.
        console.print(table, width=None if console.is_terminal else 200)


def _cell(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
