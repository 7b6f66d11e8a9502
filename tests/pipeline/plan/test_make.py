"""The plan: one changed setting reruns exactly what depends on it, and nothing else."""

import json
import re
import shutil
from pathlib import Path

import pytest
from support.recording_files import write_minimodel
from support.tiny import write_experiment

from cache import UserError
from pipeline.cli.main import main
from pipeline.experiment import load_experiment
from pipeline.plan.make import make_plan
from pipeline.plan.table import plan_lines, summary
from pipeline.variant.together import open_variants

pytestmark = pytest.mark.usefixtures("few_figures")

TABLES = """
[finetune]
blocks = [1]
last = [0, 1]
epochs = 1
[baseline]
models = ["cnn_fullmodel", "cnn_minimodel"]
kernels = [5, 3]
channels = [2, 4]
epochs = [1, 1]
minimodel = { channels = 2 }
"""

EXPERIMENTS = Path(__file__).parents[3] / "pipeline/experiments"
FX10 = EXPERIMENTS / "fx10-full.toml"


def plan_of(path, *overrides):
    file = load_experiment(path, overrides)
    return make_plan(file, open_variants(file))


def states(plan):
    """State of every step by a short name, such as "fit patch 1" or "finetune last0"."""
    found = {}
    for step in plan.steps:
        c = step.condition
        name = step.kind
        if step.kind == "fit":
            name += f" {c.solver} {c.tokens} {c.blocks}"
        elif c is not None:
            name += f" {c.tuning if step.kind == 'finetune' else c.model}"
        found[name] = step.state
    return found


def reasons(plan):
    return {step.reason for step in plan.steps if step.state == "run" and step.kind != "report"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An experiment with every stage, done."""
    folder = tmp_path_factory.mktemp("plans")
    path = write_experiment(folder)
    path.write_text(path.read_text() + TABLES)
    assert main(["run", str(path), "--quiet"]) == 0
    return path


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of it that a test may spoil, cache and results included."""
    shutil.copytree(finished.parent, tmp_path / "copy")
    path = tmp_path / "copy" / finished.name
    path.write_text(path.read_text().replace(str(finished.parent), str(path.parent)))
    return path


def test_everything_is_up_to_date_after_a_run(finished):
    plan = plan_of(finished)
    assert set(states(plan).values()) == {"up to date"}
    assert len(plan.steps) == 1 + 6 + 4 + 2 + 1
    assert summary(plan) == "14 of 14 steps up to date"


FITS = {f"fit adamw {tokens} {block}" for tokens in ("patch", "cls") for block in range(3)}
TUNED = {"finetune last0", "finetune last1"}
CNNS = {"baseline cnn_fullmodel", "baseline cnn_minimodel"}

#: A setting, which steps it makes run, and what the plan says of the first of them.
CASES = {
    "readout.adamw.max_epochs=4": (FITS | TUNED, "readout.adamw.max_epochs: 3 -> 4"),
    "finetune.backbone_rate=0.5": (TUNED, "finetune.backbone_rate: 1e-05 -> 0.5"),
    "finetune.protocol=minimodel-vit": (TUNED, "not done yet"),
    "finetune.last=[0, 2]": ({"finetune last2"}, "not done yet"),
    "baseline.momentum=0.5": (CNNS, "baseline.momentum: 0.9 -> 0.5"),
    "baseline.crop=[0, 60]": (CNNS, "not done yet"),
    "baseline.minimodel.decay=1": (None, "channel_decay"),
    "baseline.minimodel.channel_decay=0.5": (
        {"baseline cnn_minimodel"}, "baseline.minimodel.channel_decay: 0.2 -> 0.5",
    ),
    "readout.blocks=[0, 1]": (set(), None),
    "readout.joint_blocks=[[0, 2]]": ({"fit adamw patch 0+2", "fit adamw cls 0+2"}, "not done yet"),
    "readout.solver=als": (
        {name.replace("adamw", "als") for name in FITS} | TUNED, "not done yet",
    ),
    "run.seed=1": (FITS | TUNED | CNNS, "not done yet"),
    "run.workers=2": (set(), None),
    "recording.neurons=[0, 5]": (FITS | TUNED | CNNS, "the recording changed"),
    "stimuli.expected.images=7": (set(), None),
}  # fmt: skip


@pytest.mark.parametrize("setting", CASES)
def test_a_changed_setting_reruns_what_depends_on_it(finished, setting):
    expected, said = CASES[setting]
    if expected is None:
        with pytest.raises(UserError, match=said):
            plan_of(finished, setting)
        return
    plan = plan_of(finished, setting)
    found = states(plan)
    # Any change redraws the report, which shows the settings.
    assert found.pop("report") == "run"
    assert {name for name, state in found.items() if state == "run"} == expected
    assert set(found.values()) <= {"run", "up to date"}
    assert said is None or any(said in reason for reason in reasons(plan))


@pytest.mark.parametrize(
    "setting", ["backbone.seed=1", "stimuli.input_size=[32, 32]", "cache.dtype=float32"]
)
def test_another_cache_is_refused_and_another_path_extracts_anew(finished, tmp_path, setting):
    with pytest.raises(UserError, match="holds other tokens"):
        plan_of(finished, setting)
    found = states(plan_of(finished, setting, f"cache.path={tmp_path / 'other.zarr'}"))
    assert found["extract"] == "run"
    decided = {state for name, state in found.items() if name.startswith(("fit", "finetune"))}
    # Another size is another condition; else the saved ones are compared when tokens are there.
    assert decided == {"run"} if "size" in setting else {"open"}
    assert {found[name] for name in CNNS} == {"up to date"}


def test_the_run_does_what_the_plan_says(copy):
    setting = "finetune.backbone_rate=0.5"
    run = copy.parent / "runs"
    steps = [step for step in plan_of(copy, setting).steps if step.condition is not None]
    before = {step.name: made(run, step) for step in steps}
    assert main(["run", str(copy), "--quiet", "--set", setting]) == 0
    assert {s.name for s in steps if made(run, s) != before[s.name]} == {
        s.name for s in steps if s.state == "run"
    }
    assert set(states(plan_of(copy, setting)).values()) == {"up to date"}


def made(run, step):
    """When a condition was saved."""
    return (run / "results/readouts.zarr" / step.name / "zarr.json").stat().st_mtime_ns


def test_an_interrupted_cache_is_counted(copy, monkeypatch):
    shutil.rmtree(copy.parent / "runs/features.zarr")

    def fail(*_):
        raise OSError("unplugged")

    with monkeypatch.context() as patch:
        patch.setattr("stages.backbones.backbone.Backbone.one_pass", fail)
        assert main(["extract", str(copy), "--quiet"]) == 1
    plan = plan_of(copy)
    (step,) = (s for s in plan.steps if s.kind == "extract")
    assert step.state == "run" and step.work.images == 19 and "shards are missing" in step.reason
    # Its key is known, so what was fitted from it is known to be right.
    assert states(plan)["fit adamw patch 1"] == "up to date"


def test_lost_networks_are_trained_again(copy):
    for file in (copy.parent / "runs").rglob("*cnn_fullmodel*.safetensors"):
        file.unlink()
    found = states(plan_of(copy))
    assert found["baseline cnn_fullmodel"] == "run"


def test_without_data_counts_come_from_the_experiment_file(tmp_path):
    files = write_minimodel(tmp_path)
    path = tmp_path / "fx.toml"
    path.write_text(
        f'[recording]\nformat = "minimodel"\npath = "{files.recording.name}"\nname = "FX10"\n'
        f'[stimuli]\npath = "{files.images.name}"\ninput_size = [32, 64]\n'
        '[backbone]\nname = "vit_small_patch16_dinov3"\nweights = "random"\n'
        "arguments = { depth = 2, embed_dim = 48, num_heads = 3 }\n"
        '[baseline]\n[run]\noutput = "none"\n'
    )
    there = plan_of(path)
    counted = {s.name: s.work for s in there.steps}
    (fit, *_) = (s.work for s in there.steps if s.kind == "fit")
    expected = (
        f"recording.expected={{neurons={fit.neurons}, trials={fit.trials}, "
        f"test_images={fit.test_images}}}"
    )
    assert not there.missing() and there.total("neurons", "baseline") == fit.neurons
    files.recording.unlink()
    files.images.unlink()
    plan = plan_of(path, expected, "stimuli.expected.size=[66, 264]")
    assert sorted(plan.missing()) == ["recording.path of FX10", "stimuli.path"]
    assert {s.state for s in plan.steps if s.kind != "report"} == {"missing"}
    assert {s.name: s.work for s in plan.steps} == counted
    unknown = plan_of(path)
    assert unknown.total("images", "extract") is None
    assert plan_lines(unknown)[0]["work"] == "? images, ? B"


def test_the_ready_experiment_has_a_plan_without_data_or_gpu(capsys):
    """302 steps for the founding comparison, a line each in it commented."""
    assert main(["run", "--dry-run", str(FX10), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    stages_of = [step["stage"] for step in plan["steps"]]
    assert [stages_of.count(s) for s in ("extract", "fit", "finetune", "baseline")] == [
        4, 2 * 2 * 2 * 12, 2 * 2 * 5 * 10, 1,
    ]  # fmt: skip
    # What is missing now has a price all the same.
    assert plan["cost"]["core_seconds"] > 0 and plan["cost"]["unpriced"] <= 1
    small = plan["steps"][0]["work"]
    assert small["images"] == 33_955 + 500
    assert small["n_bytes"] == small["images"] * 12 * (32 + 1 + 4) * 384 * 2
    for file in (FX10, EXPERIMENTS / "fx10.toml"):
        settings = [line for line in file.read_text().splitlines() if re.match(r"\w+ = ", line)]
        assert all("#" in line for line in settings if not line.startswith(("format", "expected")))


def test_the_first_experiment_costs_what_its_header_says(capsys):
    path = EXPERIMENTS / "fx10.toml"
    header = path.read_text().partition("[recording]")[0]
    tables = {"591 core hours": (), "the frozen readouts": ("finetune=none", "baseline=none")}
    for said, dropped in tables.items():
        sets = [text for name in dropped for text in ("--set", name)]
        assert main(["run", "--dry-run", str(path), "--json", *sets]) == 0
        plan = json.loads(capsys.readouterr().out)
        kinds = {step["stage"] for step in plan["steps"]} - {"extract", "report"}
        assert kinds == ({"fit"} if dropped else {"fit", "finetune", "baseline"})
        hours = plan["cost"]["core_seconds"] / 3600
        assert said in header and (f"{hours:.2g}" if dropped else f"{hours:.0f}") in header
        assert plan["cost"]["unpriced"] == 0 and not plan["cost"]["rates"]["measured"]


def test_every_step_comes_after_those_it_needs(finished):
    for plan in (plan_of(finished), plan_of(FX10)):
        seen = set()
        for step in plan.steps:
            assert set(step.needs) <= seen
            seen.add(step.name)
        assert len(seen) == len(plan.steps)


def test_sweeps_multiply(finished, tmp_path):
    plan = plan_of(
        finished, "run.seed=[0, 1]", "stimuli.upsample=[1, 2]", f"cache.path={tmp_path / 'c'}"
    )
    counts = {s: sum(step.kind == s for step in plan.steps) for s in ("extract", "fit")}
    # Seeds share a cache, sizes do not.
    assert counts == {"extract": 2, "fit": 2 * 2 * 6}


def test_missing_input_is_listed_by_dry_run_and_refused_by_run(finished, capsys):
    settings = ["--set", "recording.path=absent.zip", "--set", "cache.path=none.zarr"]
    assert main(["run", str(finished), "--dry-run", *settings]) == 2
    said = capsys.readouterr()
    assert "missing: absent.zip (recording.path of mouse)" in said.out
    assert "input missing" in said.out and "core hours" not in said.out
    assert "say in [recording.expected] what it holds" in said.err
    assert main(["run", str(finished), "--quiet", *settings]) == 2
    assert "absent.zip: no such file" in capsys.readouterr().err


def test_a_dry_run_writes_nothing(finished):
    before = {p: p.stat().st_mtime_ns for p in finished.parent.rglob("*")}
    assert main(["run", str(finished), "--dry-run", "--set", "run.seed=3"]) == 0
    assert {p: p.stat().st_mtime_ns for p in finished.parent.rglob("*")} == before
