"""Prices at the speed of a machine, and a word before what is dear."""

import json
import shutil
from collections import namedtuple

import pytest
from support.tiny import write_experiment

from pipeline.cli.main import main
from pipeline.log import RUN_LOG
from pipeline.plan import calibrate
from pipeline.plan.speed import ASSUMED, Speed
from pipeline.terminal import Terminal
from stages.costs import Cost, Portion

pytestmark = pytest.mark.usefixtures("few_figures")

Usage = namedtuple("Usage", "total used free")

COST = Cost(
    phases=(Portion(30.0, parts=3), Portion(10.0)),
    memory=5,
    shares={"backbone": 20.0, "token products": 15.0, "bytes read": 5.0},
)


def test_the_assumed_speed_changes_no_price():
    assert COST.scaled(ASSUMED.factor) == COST
    assert Cost(phases=(Portion(3.0),)).scaled(ASSUMED.factor).core_seconds == 3


def test_each_kind_of_operation_takes_as_long_as_its_rate_says():
    core = ASSUMED.products / 2
    slow = Speed(blocks=ASSUMED.blocks / 4, products=core, core_products=core)
    scaled = COST.scaled(slow.factor)
    assert scaled.shares == {"backbone": 80, "token products": 30, "bytes read": 10}
    assert scaled.core_seconds == pytest.approx(120) and scaled.memory == 5
    # All phases alike: which of them has how much of which kind is not told.
    assert [phase.core_seconds for phase in scaled.phases] == pytest.approx([90, 30])
    disk = Speed(n_bytes=ASSUMED.n_bytes / 10)
    assert COST.scaled(disk.factor).shares["bytes read"] == pytest.approx(50)


def test_a_gpu_takes_over_products_alone():
    gpu = Speed(blocks=1e14, products=1e13, device="NVIDIA H100")
    assert gpu.factor("CNN") == pytest.approx(ASSUMED.products / 1e13)
    assert gpu.factor("solving") == gpu.factor("bytes read") == 1
    assert "100,000 GFLOP/s of NVIDIA H100" in gpu.told()


@pytest.fixture
def experiment(tmp_path):
    return write_experiment(tmp_path)


def test_calibrate_prices_at_measured_rates_and_leaves_nothing(experiment, capsys, monkeypatch):
    for name, value in {"SECONDS": 0, "ROWS": 64, "ON_DISK": 2**20, "IMAGES": 1}.items():
        monkeypatch.setattr(calibrate, name, value)
    before = sorted(experiment.parent.rglob("*"))
    told = {}
    for flags in ((), ("--calibrate",)):
        assert main(["run", "--dry-run", str(experiment), "--json", *flags]) == 0
        told[flags] = json.loads(capsys.readouterr().out)["cost"]
    rates = told["--calibrate",]["rates"]
    assert rates["measured"] and min(rates[n] for n in ("blocks", "products", "n_bytes")) > 0
    # A tiny backbone on one image: a core is never as fast as through a large one.
    assert told["--calibrate",]["core_seconds"] != told[()]["core_seconds"] > 0
    assert told[()]["rates"]["blocks"] == ASSUMED.blocks
    assert sorted(experiment.parent.rglob("*")) == before


def test_a_dry_run_names_the_assumed_rates(experiment, capsys):
    assert main(["run", "--dry-run", str(experiment)]) == 0
    assert "assumed, not measured: 140 GFLOP/s of a core" in capsys.readouterr().out
    assert main(["run", str(experiment), "--calibrate"]) == 2
    assert "add --dry-run" in capsys.readouterr().err


@pytest.fixture
def dear(monkeypatch):
    monkeypatch.setattr("pipeline.run.begin.MANY_HOURS", 0)


@pytest.fixture
def asked(monkeypatch):
    """Somebody sits there, and says no; the questions."""
    questions = []
    monkeypatch.setattr(Terminal, "can_ask", True)
    monkeypatch.setattr(Terminal, "confirm", lambda self, question: questions.append(question))
    return questions


def test_a_dear_run_is_not_begun_where_the_answer_is_no(experiment, dear, asked, capsys):
    assert main(["run", str(experiment)]) == 2
    said = capsys.readouterr().err
    assert asked == ["Begin?"] and "core hours" in said and "nothing was done" in said
    assert not (experiment.parent / "runs").exists()


def test_nobody_is_asked_without_a_terminal_or_with_yes(experiment, dear, asked, capsys):
    frozen = ["--set", "readout.blocks=[0]", "--set", 'readout.tokens=["cls"]']
    assert main(["run", str(experiment), "--yes", *frozen]) == 0
    assert "nobody is asked" in capsys.readouterr().err and asked == []
    log = (experiment.parent / "runs" / RUN_LOG).read_text()
    assert "Plan of" in log and "estimated:" in log and log.endswith("--- done\n")
    kept = log.count("\n")
    # What is up to date costs nothing, and is not logged.
    assert main(["run", str(experiment), *frozen]) == 0
    assert (experiment.parent / "runs" / RUN_LOG).read_text().count("\n") == kept


def test_results_that_a_disk_may_have_no_room_for_are_told(experiment, asked, monkeypatch, capsys):
    from cache import free_space
    from pipeline.experiment import load_experiment
    from pipeline.plan.make import extraction
    from pipeline.variant.together import open_variants

    (variant,) = open_variants(load_experiment(experiment))
    room = (extraction(variant).work.n_bytes or 0) + 100
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 0, room))
    assert free_space(experiment) == room
    assert main(["run", str(experiment)]) == 2
    said = capsys.readouterr().err
    assert "the plan takes about" in said and asked == ["Begin?"]
