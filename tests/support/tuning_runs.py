"""A tiny experiment with fine-tuning, and its tasks, for the tests that need one."""

import shutil
from pathlib import Path

from pipeline.cli.main import main
from stages.finetune.conditions import tuning_tasks
from support.runs import only_variant
from support.tiny import write_experiment

FINETUNE = """
[finetune]
blocks = [1]
tokens = ["patch"]
last = {last}
epochs = 4
readout_rate = 0.1
backbone_rate = 1e-2
"""


def write_tuning_experiment(folder, last='[0, 1, "full"]', **recording):
    path = write_experiment(folder, n_train=24, n_validation=8, **recording)
    path.write_text(path.read_text() + FINETUNE.format(last=last))
    return path


def tasks(path, *overrides):
    """The tuning tasks of an experiment, by tuning, ready to run."""
    return {t.condition.tuning: t for t in tuning_tasks(only_variant(path, *overrides))}


def flags(*settings):
    return [text for setting in settings for text in ("--set", setting)]


def outdate(run_copy):
    """Remove the tuned results of a copied run, so that they are made again."""
    results = Path(run_copy.partition("=")[2]) / "results"
    for left in [*results.glob("*.zarr/*-last*"), *results.glob("*.zarr/*-full-*")]:
        shutil.rmtree(left)


def refused(capsys, *arguments):
    capsys.readouterr()
    assert main([*arguments]) == 2
    err = capsys.readouterr().err.strip()
    assert err.startswith("vitv1: ") and "\n" not in err
    return err
