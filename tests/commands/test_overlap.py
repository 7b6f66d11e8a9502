"""A recording whose tiers share images, through `vitv1 run`."""

import json

import numpy as np
import pytest
from support.tiny import write_experiment

from pipeline.cli.main import main

plain = pytest.mark.usefixtures("no_figures")


def show_again(path, *, tier, of):
    """Let the first trial of a tier show the image of the first trial of another one."""
    folder = path.parent / "mouse"
    tiers = np.load(folder / "meta/trials/tiers.npy")
    first, other = (int(np.flatnonzero(tiers == name)[0]) for name in (tier, of))
    ids = np.load(folder / "meta/trials/frame_image_id.npy")
    ids[first] = ids[other]
    np.save(folder / "meta/trials/frame_image_id.npy", ids)
    images = folder / "data/images"
    (images / f"{first}.npy").write_bytes((images / f"{other}.npy").read_bytes())
    return ids[other]


@pytest.fixture
def experiment(tmp_path):
    return write_experiment(tmp_path)


def remarks(path):
    return json.loads((path.parent / "runs/provenance.json").read_text())["remarks"]


@plain
def test_a_test_image_in_training_ends_the_command(experiment, capsys):
    image = show_again(experiment, tier="train", of="test")
    for command in ("run", "extract", "fit"):
        assert main([command, str(experiment)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert f"1 of 3 test images ({image})" in line and 'overlap = "drop"' in line
    assert not (experiment.parent / "runs").exists()


def test_dropped_trials_are_told_in_terminal_provenance_and_report(experiment, capsys):
    image = show_again(experiment, tier="train", of="test")
    assert main(["run", str(experiment), "--set", "recording.overlap='drop'"]) == 0
    told = capsys.readouterr().err
    (remark,) = remarks(experiment)
    assert f"1 of 3 test images ({image})" in remark and remark.endswith("which were left out")
    assert f"warning: {remark}" in told
    assert remark in (experiment.parent / "runs/report.html").read_text()


@plain
def test_a_validation_image_in_training_is_told(experiment, capsys):
    show_again(experiment, tier="train", of="validation")
    assert main(["run", str(experiment)]) == 0
    told = capsys.readouterr().err
    (remark,) = remarks(experiment)
    assert "1 of 4 validation images" in remark
    assert f"warning: {remark}" in told
    assert main(["run", str(experiment), "--dry-run"]) == 0
    assert f"warning: {remark}" in capsys.readouterr().err


@plain
def test_equal_images_under_two_ids_are_told(experiment, capsys):
    folder = experiment.parent / "mouse"
    kept = np.load(folder / "meta/trials/frame_image_id.npy")
    show_again(experiment, tier="train", of="test")
    np.save(folder / "meta/trials/frame_image_id.npy", kept)
    assert main(["run", str(experiment)]) == 0
    told = capsys.readouterr().err
    (remark,) = remarks(experiment)
    assert "1 of 3 test images" in remark and "same pixels" in remark
    assert f"warning: {remark}" in told


@plain
def test_nothing_is_told_of_tiers_that_are_apart(experiment, capsys):
    assert main(["run", str(experiment)]) == 0
    assert "warning: recording" not in capsys.readouterr().err
    assert remarks(experiment) == []
