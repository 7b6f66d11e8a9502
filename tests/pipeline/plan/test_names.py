"""Results whose names would be one: refused before anything is done, and never overwritten."""

import shutil

import pytest
from support.tiny import write_experiment

from pipeline.cli.main import main
from pipeline.results.tables import read_neurons


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of the recording "mouse_1"."""
    path = write_experiment(tmp_path_factory.mktemp("names"), n_train=60, n_validation=10)
    path.write_text(path.read_text().replace('name = "mouse"', 'name = "mouse_1"'))
    assert main(["run", str(path), "--quiet", "--set", "readout.blocks=[1]"]) == 0
    return path


def content(folder):
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}


@pytest.mark.parametrize("flags", [(), ("--dry-run",)])
def test_two_recordings_of_one_folder_are_refused(tmp_path, capsys, flags):
    path = write_experiment(tmp_path)
    table = path.read_text().partition("[stimuli]")[0]
    shutil.copytree(tmp_path / "mouse", tmp_path / "mouse2")
    other = table.replace('name = "mouse"', 'name = "MOUSE"').replace(
        'path = "mouse"', 'path = "mouse2"'
    )
    both = (table + other).replace("[recording]", "[[recording]]")
    images = '[stimuli]\npath = "mouse"'
    path.write_text(path.read_text().replace(table, both).replace("[stimuli]", images))
    assert main(["run", str(path), *flags]) == 2
    assert "would both be stored under" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def test_results_of_another_name_are_not_overwritten(finished, capsys):
    before = content(finished.parent / "runs")
    other = finished.with_name("other.toml")
    other.write_text(finished.read_text().replace('name = "mouse_1"', 'name = "mouse 1"'))
    assert main(["fit", str(other), "--set", "readout.blocks=[1]"]) == 2
    said = capsys.readouterr().err
    assert "holds results of recording 'mouse_1'" in said and "'mouse 1'" in said
    assert content(finished.parent / "runs") == before
    assert set(read_neurons(finished.parent / "runs")["recording"]) == {"mouse_1"}


def test_other_settings_of_the_same_name_are_only_outdated(finished):
    assert main(["fit", str(finished), "--quiet", "--set", "readout.blocks=[1]", "--set",
                 "readout.adamw.max_epochs=2"]) == 0  # fmt: skip
