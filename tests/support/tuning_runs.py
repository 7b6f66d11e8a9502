"""A tiny experiment with fine-tuning, and its tasks, for the tests that need one."""

import shutil
from pathlib import Path

import pipeline.finetuning
from pipeline.cli.app import main
from pipeline.experiment import load_experiment
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
    file = load_experiment(path, overrides)
    (variant,) = file.variants
    (cache,) = pipeline.finetuning.checked_caches(file)
    planned = list(pipeline.finetuning.tuning_tasks(file, variant, cache))
    return {t.condition.tuning: t for t in pipeline.finetuning._with_images(variant, planned)}


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
