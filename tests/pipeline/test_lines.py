"""Plain lines of progress, by a clock that the test moves."""

import threading

import pytest

from pipeline.lines import RECENT, Lines, duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"),
     (86400 * 3 + 3600 * 4 + 59, "3 d 4 h")],
)  # fmt: skip
def test_durations(seconds, said):
    assert duration(seconds) == said


class Work:
    """Lines of some work, with a clock."""

    def __init__(self, total=100.0, unit="epochs"):
        self.now, self.said = 1000.0, []
        self.lines = Lines("tuning", total, unit, self.said.append, clock=lambda: self.now)

    def after(self, seconds, done=0.0, text=None):
        self.now += seconds
        self.lines(done, text)
        self.lines.look()
        return self.said[-1]


def test_a_line_tells_what_how_much_the_rate_and_the_time_that_is_left():
    work = Work()
    assert work.after(30) == "tuning: 0 of 100 epochs"
    assert work.after(30, 10) == "tuning: 10 of 100 epochs, 10 epochs/min, 9 min 0 s left"
    said = work.after(60, 20.5, "epoch 30: loss 1.2")
    assert said == "tuning: 30 of 100 epochs, 15.2 epochs/min, 4 min 33 s left; epoch 30: loss 1.2"


def test_what_was_long_ago_does_not_count_for_the_rate():
    work = Work(total=10**6)
    work.after(1, 10**5)  # such as the epochs of an interrupted training
    for _ in range(RECENT):
        said = work.after(30, 30)
    assert "1 epochs/s" in said


@pytest.mark.parametrize(
    ("done", "rate"), [(60, "2 epochs/s"), (0.5, "1 epochs/min"), (0.01, "1.2 epochs/h")]
)
def test_slow_work_has_a_rate(done, rate):
    assert rate in Work().after(30, done)


def test_bytes_are_sizes():
    work = Work(total=2e9, unit="bytes")
    assert work.after(10, 5e8) == "tuning: 500.0 MB of 2.0 GB, 50.0 MB/s, 30 s left"
    work.lines.end()
    assert work.said[-1] == "tuning: 500.0 MB in 10 s"


def test_work_of_unknown_length_says_for_how_long():
    assert Work(total=None).after(90) == "tuning: for 1 min 30 s"


def test_lines_come_while_nothing_is_done():
    twice = threading.Semaphore(0)
    lines = Lines("tuning", 3, "epochs", lambda line: twice.release())
    with lines.spoken(every=0.001):
        assert twice.acquire(timeout=30) and twice.acquire(timeout=30)
