"""Damaged results: the plan names them, reading refuses them, the next run makes them again."""

import shutil

import pytest
from support.runs import plan_of
from support.tiny import write_experiment

from cache import UserError
from pipeline.cli.main import main
from stages.readouts import load_readouts, saved_columns

TABLES = """
[finetune]
blocks = [1]
last = [1]
epochs = 1
[baseline]
models = ["cnn_fullmodel"]
kernels = [5, 3]
channels = [2, 4]
epochs = [1, 1]
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    path = write_experiment(tmp_path_factory.mktemp("damaged"))
    path.write_text(path.read_text() + TABLES)
    assert main(["run", str(path), "--quiet"]) == 0
    return path


@pytest.fixture
def spoiled(finished):
    """The output of a run that a test may spoil; its content is put back afterwards."""
    output = finished.parent / "runs"
    kept = finished.parent / "kept"
    shutil.copytree(output, kept)
    yield output
    shutil.rmtree(output)
    kept.rename(output)


def said(path):
    """Reasons of what is to be done."""
    return [step.reason for step in plan_of(path).steps if step.state != "up to date"]


def test_a_deleted_chunk_is_named_refused_and_healed(finished, spoiled, capsys):
    """Zarr reads a chunk that is gone as zeros: a mean FEVE of 0.000 was called up to date."""
    (step, *_) = (s for s in plan_of(finished).steps if s.kind == "fit")
    lost = spoiled / "results/readouts.zarr" / step.name / "feve/c/0"
    before = lost.read_bytes()
    lost.unlink()
    name = f"results/readouts.zarr/{step.name}/feve/c/0 is gone"
    assert said(finished) == [f"its file {name}", "the tables change"]
    with pytest.raises(UserError, match="feve/c/0 is gone: vitv1 run makes it again"):
        saved_columns(spoiled, step.condition)
    with pytest.raises(UserError, match="feve/c/0 is gone"):
        load_readouts(spoiled, **step.condition.identity())
    assert main(["run", str(finished), "--quiet"]) == 0
    assert lost.read_bytes() == before and said(finished) == []


def test_a_torn_save_is_done_again(finished, spoiled):
    """Killed between the groups and the manifest."""
    (step, *_) = (s for s in plan_of(finished).steps if s.kind == "fit")
    (spoiled / f"results/manifests/{step.name}.json").unlink()
    manifest = f"results/manifests/{step.name}.json is gone"
    assert said(finished)[0] == f"its file {manifest}"
    with pytest.raises(UserError, match="is gone"):
        saved_columns(spoiled, step.condition)


@pytest.mark.parametrize("lost", [True, False])
def test_tables_figures_and_report_are_made_again(finished, spoiled, lost):
    whole = {
        spoiled / name: (spoiled / name).read_bytes()
        for name in (
            "results/neurons.parquet", "results/summary.csv", "results/curves.parquet",
            "results/readouts.zarr/zarr.json", "figures/learning_curves.svg", "report.html",
            "provenance.json",
        )
    }  # fmt: skip

    def spoil(path):
        if lost:
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[:-1])

    for path, before in whole.items():
        spoil(path)
        (reason,) = said(finished)
        told = f"{path.relative_to(spoiled)} {'is gone' if lost else 'changed on disk'}"
        assert reason in (told, "not drawn yet from these tables")
        path.write_bytes(before)
    for path in whole:
        spoil(path)
    assert main(["run", str(finished), "--quiet"]) == 0
    assert said(finished) == []
    assert all(p.read_bytes() == c for p, c in whole.items() if p.suffix not in (".json", ".html"))


def test_a_file_of_someone_else_among_the_figures_is_no_damage(finished, spoiled):
    (spoiled / "figures/mine.png").write_bytes(b"mine")
    assert said(finished) == []


@pytest.mark.parametrize("name", ["tuned", "results/predictions.zarr"])
def test_networks_and_predictions_are_part_of_a_condition(finished, spoiled, name):
    path = max((spoiled / name).rglob("*"), key=lambda p: p.stat().st_size * p.is_file())
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    assert said(finished)[0] == f"its file {path.relative_to(spoiled)} changed on disk"
