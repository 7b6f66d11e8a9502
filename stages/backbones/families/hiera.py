"""Hiera: its intermediate outputs are those of blocks, not of stages alone."""

from __future__ import annotations

from typing import ClassVar

from stages.backbones.families.family import Family


class Hiera(Family):
    """timm's Hiera."""

    module, kind = "timm.models.hiera", "Hiera"
    asked: ClassVar = {"coarse": False}


class HieraDet(Hiera):
    """The Hiera of SAM 2."""

    module, kind = "timm.models.hieradet_sam2", "HieraDet"
