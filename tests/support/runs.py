"""Stages of an experiment run in this process, and its variants as a command opens them."""

from __future__ import annotations

from pathlib import Path

from pipeline import commands
from pipeline.experiment import ExperimentFile, load_experiment
from pipeline.plan.make import make_plan
from pipeline.plan.steps import Plan
from pipeline.terminal import Terminal
from pipeline.variant.together import open_variants
from pipeline.variant.variant import Variant
from stages.recordings import Recording


def only_variant(path: Path, *overrides: str) -> Variant:
    """The one variant of an experiment, opened."""
    (variant,) = open_variants(load_experiment(path, overrides))
    return variant


def recording_of(path: Path, *overrides: str) -> Recording:
    """The one recording of an experiment, with the chosen neurons."""
    (recording,) = only_variant(path, *overrides).recordings
    return recording


def plan_of(path: Path, *overrides: str) -> Plan:
    """The plan of an experiment."""
    file = load_experiment(path, overrides)
    return make_plan(file, open_variants(file))


def run_stage(file: ExperimentFile, stage: str) -> None:
    """What `vitv1 <stage>` does."""
    commands.run(file, Terminal(quiet=True), only=stage)
