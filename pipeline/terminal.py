"""Progress bars, notes and tables on a terminal, and results as JSON.

What draws them, rich, is imported when there is something to draw.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, TextIO

from cache import public_text
from stages.conditions import is_null

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from stages.stage import Progress as StageProgress

#: What a terminal obeys or hides rather than shows: control characters, marks of the direction of
#: writing, breaks of lines, and halves of characters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

#: Texts longer than this are wrapped in a table rather than cut.
WRAPPED = 16


@dataclass(frozen=True)
class Terminal:
    """A terminal, or a script in its stead: bars and notes go to stderr, results to stdout.

    Parameters
    ----------
    quiet : bool
        No bars and no notes; results and errors only.
    as_json : bool
        Results as one JSON document instead of lines and tables, for scripts.
    out : text stream, optional
        Where that document goes; standard output by default.
    """

    quiet: bool = False
    as_json: bool = False
    out: TextIO | None = None

    def note(self, message: str) -> None:
        """One line of what is happening."""
        if not self.quiet:
            _print(message, stderr=True)

    def result(self, message: str) -> None:
        """One line on stdout; nothing where a JSON document follows."""
        if not self.as_json:
            _print(message, stderr=False)

    @contextmanager
    def bar(self, label: str, *, total: int, unit: str) -> Iterator[StageProgress]:
        """A progress bar in units; nothing is drawn where stderr is no terminal."""
        from rich.progress import MofNCompleteColumn, TimeElapsedColumn

        with self._bars(MofNCompleteColumn(), _rate(), TimeElapsedColumn()) as progress:
            task = progress.add_task(printable(label), total=total, unit=unit)
            yield lambda done, text=None: progress.update(
                task, advance=done, description=None if text is None else printable(text)
            )

    @contextmanager
    def transfer(self, label: str, *, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar in bytes; yields a function that is called with numbers of bytes."""
        from rich.progress import DownloadColumn, TransferSpeedColumn

        with self._bars(DownloadColumn(), TransferSpeedColumn()) as progress:
            task = progress.add_task(printable(label), total=total)
            yield lambda n_bytes: progress.update(task, advance=n_bytes)

    def _bars(self, *columns: ProgressColumn) -> Progress:
        """Bars with these columns between the bar itself and the time that is left."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True)
        return Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *columns,
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            disable=self.quiet or not console.is_terminal,
        )

    @contextmanager
    def busy(self, label: str) -> Iterator[None]:
        """A sign of life while something runs whose length cannot be told."""
        from rich.console import Console
        from rich.text import Text

        console = Console(stderr=True)
        if self.quiet or not console.is_terminal:
            yield
            return
        with console.status(Text(printable(label))):
            yield

    def document(self, content: Mapping[str, Any]) -> None:
        """The JSON document on stdout, where one is asked for; NaN becomes null."""
        if self.as_json:
            print(json.dumps(_plain(content), indent=2, default=str), file=self.out)

    def table(
        self, rows: Sequence[Mapping[Any, object]], *, title: str, note: bool = False
    ) -> None:
        """A table: of results on stdout, or as a note on stderr.

        Parameters
        ----------
        rows : sequence of mapping
            Values by the names of the columns, which come in the order of their first row. A row
            may lack some.
        """
        if self.quiet if note else self.as_json:
            return
        from rich.console import Console
        from rich.table import Table

        table = Table(title=printable(title, lines=True))
        names = list(dict.fromkeys(name for row in rows for name in row))
        for name in names:
            values = [row.get(name) for row in rows]
            numeric = all(is_null(value) or isinstance(value, Real) for value in values)
            words = not numeric and max(len(_cell(value)) for value in values) > WRAPPED
            table.add_column(
                printable(str(name)),
                justify="right" if numeric else "left",
                no_wrap=not words,
                overflow="fold" if words else "ellipsis",
            )
        for row in rows:
            table.add_row(*(_cell(row.get(name)) for name in names))
        console = Console(stderr=note, markup=False, emoji=False)
        # Lines of a table that is piped into a file are not cut at 80 columns.
        if not console.is_terminal:
            console = Console(stderr=note, markup=False, emoji=False, width=200)
        console.print(table)


def printable(text: str, *, lines: bool = False) -> str:
    """A text as a terminal may show it, wherever it comes from.

    Unseen characters stand as escapes, and URLs without user, password and query.
    Without `lines` a break of a line is one of them, so that no text forges a line of its own.
    """
    text = public_text(text)
    text = text if lines else text.replace("\n", "\\n")
    return _UNSEEN.sub(lambda unseen: unseen[0].encode("unicode_escape").decode(), text)


def _print(message: str, *, stderr: bool) -> None:
    from rich.console import Console

    console = Console(stderr=stderr, soft_wrap=True, highlight=False, markup=False, emoji=False)
    console.print(printable(message))


def _rate() -> ProgressColumn:
    """A column of units per second, such as "94 images/s"; blank before the first."""
    from rich.progress import ProgressColumn, Task
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            speed = task.finished_speed or task.speed
            if not speed:
                return Text("")
            unit = task.fields["unit"]
            return Text(f"{speed:.0f} {unit}/s" if speed >= 10 else f"{speed:.2f} {unit}/s")

    return Rate()


def _plain(value: Any) -> Any:
    """The same as JSON can hold it; null for NaN and for what is not there."""
    if isinstance(value, Mapping):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if hasattr(value, "item"):
        value = value.item()  # a scalar of numpy
    if isinstance(value, str):
        return public_text(value)
    return None if is_null(value) else value


def _cell(value: object) -> str:
    if is_null(value):
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else printable(str(value))
