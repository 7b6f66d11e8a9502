"""Progress bars, notes and tables on a terminal, and results as JSON.

What draws them, rich, is imported when there is something to draw.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from numbers import Real
from typing import TYPE_CHECKING, Any, TextIO

from cache import public_text
from pipeline.lines import Lines
from stages.conditions import is_null

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

    from stages.stage import Progress as StageProgress

#: What a terminal obeys or hides rather than shows: control characters, marks of the direction of
#: writing, breaks of lines, and halves of characters.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)

#: Keeps what is said, where a command has a log; see `pipeline.log`.
_log = logging.getLogger(__name__)

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
    verbose : bool
        Notes of every step of the solvers, too.
    """

    quiet: bool = False
    as_json: bool = False
    out: TextIO | None = None
    verbose: bool = False

    def note(self, message: str) -> None:
        """One line of what is happening."""
        _log.info(printable(message))
        if not self.quiet:
            _print(message, stderr=True)

    def detail(self, message: str) -> None:
        """One line of what a solver does, for who asked for it."""
        _log.debug(printable(message))
        if self.verbose and not self.quiet:
            _print(message, stderr=True)

    def result(self, message: str) -> None:
        """One line on stdout; nothing where a JSON document follows."""
        _log.info(printable(message))
        if not self.as_json:
            _print(message, stderr=False)

    @contextmanager
    def bar(self, label: str, *, total: int, unit: str) -> Iterator[StageProgress]:
        """A progress bar in units; lines instead where stderr is no terminal."""
        from rich.progress import MofNCompleteColumn, TimeElapsedColumn

        with (
            self._lines(label, total, unit) as lines,
            self._bars(MofNCompleteColumn(), _rate(), TimeElapsedColumn()) as progress,
        ):
            task = progress.add_task(printable(label), total=total, unit=unit)

            def done(number: float, text: str | None = None) -> None:
                lines(number, text)
                said = None if text is None else printable(text)
                progress.update(task, advance=number, description=said)
                if text is not None:
                    self.detail(text)

            yield done

    @contextmanager
    def transfer(self, label: str, *, total: int) -> Iterator[Callable[[int], None]]:
        """A progress bar in bytes; yields a function that is called with numbers of bytes."""
        from rich.progress import DownloadColumn, TransferSpeedColumn

        with (
            self._lines(label, total, "bytes") as lines,
            self._bars(DownloadColumn(), TransferSpeedColumn()) as progress,
        ):
            task = progress.add_task(printable(label), total=total)

            def done(n_bytes: int) -> None:
                lines(n_bytes)
                progress.update(task, advance=n_bytes)

            yield done

    @contextmanager
    def _lines(self, label: str, total: float | None, unit: str) -> Iterator[Lines]:
        """Lines for the log, and for stderr where it is no terminal and they are not few."""
        from rich.console import Console

        shown = not self.quiet and not Console(stderr=True).is_terminal
        said: list[str] = []

        def say(line: str) -> None:
            _log.info(printable(line))
            if shown:
                _print(line, stderr=True)
            said.append(line)

        lines = Lines(label, total, unit, say)
        with lines.spoken():
            yield lines
        if said or total is not None:
            lines.say = say if said else lambda line: _log.info(printable(line))
            lines.end()

    def _bars(self, *columns: ProgressColumn) -> Progress:
        """Bars with these columns between the bar itself and the time that is left."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
        from rich.table import Column

        console = Console(stderr=True)
        return Progress(
            TextColumn(
                "{task.description}",
                markup=False,
                table_column=Column(no_wrap=True, overflow="ellipsis"),
            ),
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
        with self._lines(label, None, ""):
            if self.quiet or not console.is_terminal:
                yield
                return
            with console.status(Text(printable(label))):
                yield

    @property
    def can_ask(self) -> bool:
        """Whether somebody sits there who can answer."""
        from rich.console import Console

        at_hand = sys.stdin is not None and sys.stdin.isatty()
        return not self.quiet and at_hand and Console(stderr=True).is_terminal

    def confirm(self, question: str) -> bool:
        """The answer of who sits there: no, unless it is yes."""
        import typer

        return bool(typer.confirm(printable(question), err=True))

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
        silent = self.quiet if note else self.as_json
        if silent and not _log.isEnabledFor(logging.INFO):
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
        if _log.isEnabledFor(logging.INFO):
            kept = StringIO()
            Console(file=kept, markup=False, emoji=False, width=200).print(table)
            _log.info("\n" + kept.getvalue().rstrip())
        if silent:
            return
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
