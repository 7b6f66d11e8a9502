"""The stages that fit conditions, in the order of their needs."""

from __future__ import annotations

from stages.baseline.stage import Baseline
from stages.finetune.stage import Finetune
from stages.fit.stage import Fit
from stages.stage import Stage

STAGES: tuple[Stage, ...] = (Fit(), Finetune(), Baseline())
