"""Reports of tasks at work, in this process and from workers' files."""

import pickle
from dataclasses import dataclass
from operator import attrgetter

import pytest

from stages.executors.reports import Followed, map_reporting, report, report_part, reporting


@dataclass(frozen=True)
class Task:
    name: str

    @property
    def label(self):
        return f"task {self.name}"


def compute(task):
    """Four epochs, of which the last is not reported."""
    report(0, 4, "begins")
    for epoch in range(3):
        report(epoch + 1, 4, f"epoch {epoch + 1}")
    return task.name


class Elsewhere:
    """An executor whose tasks cannot reach this process's progress but through files."""

    def __init__(self, remote):
        self.remote = remote

    def map(self, function, tasks, *, device="cpu"):
        function = pickle.loads(pickle.dumps(function)) if self.remote else function
        yield from ((number, function(task)) for number, task in enumerate(tasks))


def mapped(executor, folder):
    seen = []
    results = map_reporting(
        executor,
        compute,
        [Task("a"), Task("b")],
        name=attrgetter("name"),
        label=attrgetter("label"),
        sizes=[4, 40],
        folder=folder / "reports",
        progress=lambda done, text=None: seen.append((done, text)),
    )
    return set(results), seen


@pytest.mark.parametrize("remote", [False, True])
def test_progress_grows_while_a_task_is_computed(tmp_path, remote):
    results, seen = mapped(Elsewhere(remote), tmp_path)
    assert results == {"a", "b"} and sum(done for done, _ in seen) == pytest.approx(44)
    told = [(done, text) for done, text in seen if text and text.endswith("(task b)")]
    assert [text.partition(" (")[0] for _, text in told] == ["begins"] + [
        f"epoch {number}" for number in (1, 2, 3)
    ]
    # A look at the files may come when the task is done: then all of it is told at once.
    assert remote or [done for done, _ in told] == [0, 10, 10, 10]


def test_nobody_listens_outside():
    seen = []
    report(1, 2, "before")
    with reporting(lambda share, text: seen.append((share, text))):
        report(1, 4, "a quarter")
    report(2, 2, "afterwards")
    assert seen == [(0.25, "a quarter")]


def test_parts_of_an_epoch_come_once_a_second(monkeypatch):
    seen, now = [], [1000.0]
    monkeypatch.setattr("time.time", lambda: now[0])
    monkeypatch.setattr("time.time_ns", lambda: int(now[0] * 1e9))
    with reporting(lambda share, text: seen.append(share)):
        report_part(0.9)  # of what is not said yet
        report(1, 2, "one of two")
        for number in range(10):
            report_part(number / 10)
            now[0] += 0.5
    assert seen == [0.5, 0.6, 0.7, 0.8, 0.9]


def test_a_task_that_begins_anew_adds_nothing_and_torn_lines_wait(tmp_path):
    seen = []
    followed = Followed({"a": ("A", 10)}, lambda done, text=None: seen.append(done))
    path = tmp_path / "a"
    path.write_text('[0.3, "x"]\n[0.5, "y"]\n[0.')
    (tmp_path / "other").write_text('[1.0, "z"]\n')
    followed.look(tmp_path)
    assert seen == pytest.approx([3, 2])
    with path.open("a") as file:
        file.write('1, "again"]\nnot json\n[0.6, ""]\n')
    followed.look(tmp_path)
    assert seen == pytest.approx([3, 2, 0, 1])
    followed.told("a", 1.0, "")
    assert sum(seen) == pytest.approx(10)
