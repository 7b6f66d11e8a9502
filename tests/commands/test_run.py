"""`vitv1 run`: cut anywhere it ends in the same tables; failures are contained."""

import json
import os
import random
import shutil
import signal
import time

import pandas as pd
import pytest
from support.forked import forked
from support.tiny import write_experiment

import stages.fit.run
from pipeline.cli.main import main

pytestmark = pytest.mark.usefixtures("few_figures")

TABLES = """
[finetune]
tokens = ["patch"]
blocks = [1]
last = [0, 1]
epochs = 1
[baseline]
kernels = [5, 3]
channels = [2, 4]
epochs = [1, 1]
"""


def experiment(folder):
    folder.mkdir()
    path = write_experiment(folder)
    path.write_text(path.read_text() + TABLES)
    return path


def tables(path):
    """The result tables, without what depends on the clock."""
    results = path.parent / "runs/results"
    summary = pd.read_csv(results / "summary.csv").drop(columns="seconds")
    return [pd.read_parquet(results / "neurons.parquet"), summary]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """A run that nothing disturbed, and how long it took."""
    path = experiment(tmp_path_factory.mktemp("run") / "whole")
    started = time.monotonic()
    assert main(["run", str(path), "--quiet"]) == 0
    return path, time.monotonic() - started


def run_quietly(path):
    os._exit(main(["run", path, "--quiet", "--set", "run.device=cpu"]))


def test_a_run_killed_at_random_points_ends_in_the_same_tables(reference, tmp_path):
    """Killed at any moment, by Ctrl-C and for good, then left alone."""
    path = experiment(tmp_path / "cut")
    draw = random.Random(0)
    context = forked()
    for number in range(2):
        child = context.Process(target=run_quietly, args=(str(path),))
        child.start()
        child.join(draw.uniform(0, reference[1]))
        if child.is_alive():
            os.kill(child.pid, (signal.SIGINT, signal.SIGKILL)[number % 2])
        child.join()
        assert child.exitcode in (0, 130, -signal.SIGINT, -signal.SIGKILL)
    assert main(["run", str(path), "--quiet"]) == 0
    for ours, theirs in zip(tables(path), tables(reference[0]), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)


def test_one_failing_condition_does_not_stop_the_others(tmp_path, capsys, monkeypatch):
    path = experiment(tmp_path / "failing")
    whole = stages.fit.run.fitted_condition
    fitted = []

    def fit(*arguments, **settings):
        fitted.append(settings)
        if len(fitted) == 2:
            raise FloatingPointError("the loss is not finite")
        return whole(*arguments, **settings)

    with monkeypatch.context() as patch:
        patch.setattr(stages.fit.run, "fitted_condition", fit)
        assert main(["run", str(path), "--quiet"]) == 1
    err = capsys.readouterr().err
    assert "patch-block1" in err and "FloatingPointError: the loss is not finite" in err
    assert "last1" in err and "its frozen readouts failed" in err and "Traceback" not in err
    assert "3 steps failed; the same command tries again" in err
    neurons = tables(path)[0]
    found = set(zip(neurons["tuning"], neurons["tokens"], neurons["block"], strict=True))
    # Five of six frozen conditions and the CNN; nothing that starts from the failed one.
    assert len(found) == 6 and ("frozen", "patch", 1) not in found
    assert (path.parent / "runs/report.html").exists()

    assert main(["run", str(path), "--quiet"]) == 0
    assert len(tables(path)[1]) == 6 + 2 + 1


def test_a_cache_that_cannot_be_made_costs_what_needs_it_alone(tmp_path, capsys, monkeypatch):
    import stages.backbones.backbone

    path = experiment(tmp_path / "sweep")
    whole = stages.backbones.backbone.Backbone.one_pass

    def tokens(backbone, images):
        if backbone.grid == (4, 8):
            raise RuntimeError("out of memory")
        return whole(backbone, images)

    sweep = ["--quiet", "--set", "stimuli.upsample=[1, 2]"]
    with monkeypatch.context() as patch:
        patch.setattr(stages.backbones.backbone.Backbone, "one_pass", tokens)
        assert main(["run", str(path), *sweep]) == 1
    err = capsys.readouterr().err
    assert "64x128.zarr failed: RuntimeError: out of memory" in err
    assert len(tables(path)[1]) == 6 + 2 + 1
    assert main(["run", str(path), *sweep]) == 0
    assert len(tables(path)[1]) == 2 * (6 + 2) + 1


def test_json_is_all_there_is_on_stdout(reference, capsys):
    path = reference[0]
    for command in ("run", "fit", "finetune", "baseline"):
        assert main([command, str(path), "--json"]) == 0
        said = json.loads(capsys.readouterr().out)
        assert len(said["conditions"]) == 6 + 2 + 1
        assert said["conditions"][0]["recording"] == "mouse"
        assert said["report"].endswith("report.html") and said["figures"]
    assert main(["report", str(path), "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"figures", "report"}
    assert main(["run", str(path), "--dry-run", "--json", "--quiet"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {step["state"] for step in plan["steps"]} == {"up to date"}


def test_a_run_says_its_plan_on_stderr_and_its_results_on_stdout(reference, capfd):
    assert main(["run", str(reference[0])]) == 0
    out, err = capfd.readouterr()
    assert "Plan of" in err and "up to date" in err
    assert "Plan of" not in out and "mean_feve" in out and "report.html" in out
    # No bar and no control character where nobody watches.
    assert "\x1b" not in out + err and "\r" not in out + err
    assert main(["run", str(reference[0]), "--quiet"]) == 0
    assert capfd.readouterr().err == ""


def test_a_deleted_result_is_made_again(reference, tmp_path):
    copied = tmp_path / "copy"
    shutil.copytree(reference[0].parent, copied)
    path = copied / reference[0].name
    path.write_text(path.read_text().replace(str(reference[0].parent), str(copied)))
    lost = next((copied / "runs/results/readouts.zarr").glob("*frozen*patch-block2*"))
    shutil.rmtree(lost)
    assert main(["run", str(path), "--quiet"]) == 0
    for ours, theirs in zip(tables(path), tables(reference[0]), strict=True):
        pd.testing.assert_frame_equal(ours, theirs)
