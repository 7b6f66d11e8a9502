"""What a person sees while commands run: progress bars with rate and time left, and tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
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

#: Texts longer than this are wrapped in a table rather than cut.
WRAPPED = 16


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
    as_json : bool
        Results as one JSON document instead of lines and tables, for scripts.
    """

    quiet: bool = False
    as_json: bool = False

    def note(self, message: str) -> None:
        """One line of what is happening."""
        if not self.quiet:
            Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(message)

    def result(self, message: str) -> None:
        """One line on stdout; nothing where a JSON document follows."""
        if self.as_json:
            return
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
    def busy(self, label: str) -> Iterator[None]:
        """A sign of life while something runs whose length cannot be told."""
        console = Console(stderr=True)
        if self.quiet or not console.is_terminal:
            yield
            return
        with console.status(label):
            yield

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

    def document(self, content: Mapping[str, Any]) -> None:
        """The JSON document on stdout, where one is asked for; NaN becomes null."""
        if self.as_json:
            print(json.dumps(_plain(content), indent=2, default=str))

    def table(self, frame: pd.DataFrame, *, title: str, note: bool = False) -> None:
        """A table: of results on stdout, or as a note on stderr."""
        if self.quiet if note else self.as_json:
            return
        table = Table(title=title)
        for column in frame.columns:
            numeric = pd.api.types.is_numeric_dtype(frame[column])
            words = not numeric and frame[column].astype(str).str.len().max() > WRAPPED
            table.add_column(
                str(column),
                justify="right" if numeric else "left",
                no_wrap=not words,
                overflow="fold" if words else "ellipsis",
            )
        for row in frame.itertuples(index=False):
            table.add_row(*(_cell(value) for value in row))
        console = Console(stderr=note)
        # Lines of a table that is piped into a file are not cut at 80 columns.
        if not console.is_terminal:
            console = Console(stderr=note, width=200)
        console.print(table)


def _plain(value: Any) -> Any:
    """What JSON can hold; a number that is none is null."""
    if isinstance(value, pd.DataFrame):
        return [_plain(row) for row in value.astype(object).to_dict("records")]
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if value is pd.NA or value != value else value


def _cell(value: object) -> str:
    if pd.isna(value):  # type: ignore[call-overload]
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
