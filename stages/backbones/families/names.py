"""Names of backbones, as people use them."""

from __future__ import annotations

import re

from stages.backbones.families.known import FAMILIES

#: A timm name: size, pixels of a patch, register tokens or input size, and the pretraining.
_NAME = re.compile(r"vit_(small|base)_patch(\d+)_(?:reg4_|224\.)?([a-z0-9]+)\b")


def model_name(label: str) -> str:
    """What people call a timm model, as `BackboneSettings.label` writes it.

    Such as "ViT-S/16 DINOv3 (stride 8, random weights)"; any other name as it is.
    """
    name, *changes = label.split("+")
    said = ", ".join(map(_said, changes))
    return f"{_plain_name(name)} ({said})" if said else _plain_name(name)


def _said(change: str) -> str:
    match = re.fullmatch(r"(patch|stride)(\d+)(-.*)?", change)
    if match is None:
        return "random weights" if change == "random" else f"weights {change}"
    what, pixels, how = match.groups()
    return f"{what} {pixels}" + (how or "").replace("-", ", ", 1).replace("-", " and ")


def _plain_name(name: str) -> str:
    match = _NAME.match(name)
    if match is None:
        return name
    size, patch, pretraining = match.groups()
    known = {key: said for family in FAMILIES for key, said in family.pretrainings.items()}
    return f"ViT-{size[0].upper()}/{patch} {known[pretraining]}" if pretraining in known else name
