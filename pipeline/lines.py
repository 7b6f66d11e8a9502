"""Plain lines of how far something is, for logs and wherever no bar can be drawn."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.filesize import decimal

#: Seconds between two lines.
EVERY = 30.0

#: Lines that the rate is taken over: what was before says little of what is to come.
RECENT = 10

_PER = ((1.0, "s"), (60.0, "min"), (3600.0, "h"))


class Lines:
    """Lines of one piece of work; call it as a stage's progress.

    Parameters
    ----------
    label : str
        What is done, such as "fitting readouts".
    total : float, optional
        Of how many; None where nobody knows.
    unit : str
        What is counted, such as "conditions"; "bytes" are told as sizes.
    say : callable
        Is given each line.
    clock : callable
        Seconds that only grow.
    """

    def __init__(
        self,
        label: str,
        total: float | None,
        unit: str,
        say: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.label, self.total, self.unit = label, total, unit
        self.say, self.clock = say, clock
        self.done, self.text = 0.0, ""
        self.started = clock()
        self._before = deque([(self.started, 0.0)], maxlen=RECENT)
        self._lock = threading.Lock()

    def __call__(self, done: float, text: str | None = None) -> None:
        """So much was done since; `text` says what."""
        with self._lock:
            self.done += done
            self.text = self.text if text is None else text

    def look(self) -> None:
        """Say a line."""
        now = self.clock()
        if self.total is None:
            self.say(f"{self.label}: for {duration(now - self.started)}")
            return
        then, before = self._before[0]
        done = self.done
        self._before.append((now, done))
        line = f"{self.label}: {self._counted(done)} of {self._counted(self.total)}"
        line += "" if self.unit == "bytes" else f" {self.unit}"
        if done > before and now > then:
            rate = (done - before) / (now - then)
            line += f", {self._rate(rate)}, {duration(max(0.0, self.total - done) / rate)} left"
        self.say(f"{line}; {self.text}" if self.text else line)

    def end(self) -> None:
        """Say what it came to."""
        took = duration(self.clock() - self.started)
        if self.total is None:
            self.say(f"{self.label}: {took}")
        else:
            unit = "" if self.unit == "bytes" else f" {self.unit}"
            self.say(f"{self.label}: {self._counted(self.done)}{unit} in {took}")

    @contextmanager
    def spoken(self, every: float = EVERY) -> Iterator[None]:
        """Have a line said again and again inside, whatever goes on or does not."""
        over = threading.Event()

        def watch() -> None:
            while not over.wait(every):
                self.look()

        thread = threading.Thread(target=watch, name="lines", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _counted(self, number: float) -> str:
        return decimal(int(number)) if self.unit == "bytes" else f"{int(number + 1e-6):,}"

    def _rate(self, rate: float) -> str:
        if self.unit == "bytes":
            return f"{decimal(int(rate))}/s"
        seconds, per = next(((s, p) for s, p in _PER if rate * s >= 1), _PER[-1])
        return f"{rate * seconds:.3g} {self.unit}/{per}"


def duration(seconds: float) -> str:
    """A time as people say it: "45 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"."""
    whole = round(seconds)
    for (size, unit), (part, smaller) in zip(
        ((86400, "d"), (3600, "h"), (60, "min")), ((3600, "h"), (60, "min"), (1, "s")), strict=True
    ):
        if whole >= size:
            count, rest = divmod(whole, size)
            return f"{count} {unit} {rest // part} {smaller}"
    return f"{whole} s"
