"""All families of backbones that are known, in the order in which they are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cache import UserError
from stages.backbones.families.eva import EvaViT
from stages.backbones.families.family import Family
from stages.backbones.families.gemma import Gemma4, Gemma4Encoder
from stages.backbones.families.hiera import Hiera, HieraDet
from stages.backbones.families.plain import PlainViT
from stages.backbones.families.swin import Swin, SwinV2

if TYPE_CHECKING:
    import torch

#: Where the provenance of a cache has the family of its backbone, as `Family.named` tells it.
FAMILY = "family"


class OtherBackbone(Family):
    """Any other model of timm with intermediate outputs, with or without stages.

    Such as XCiT, BEiT and CaiT; MViT and PVT; ConvNeXt, ResNet and VGG; CoAtNet, MaxViT,
    EfficientFormer, FastViT and LeViT.
    """

    def has(self, model: torch.nn.Module) -> bool:
        """See `Family.has`."""
        return hasattr(model, "forward_intermediates")


#: All of them. Another family is a class in this folder, and its place here.
FAMILIES: tuple[Family, ...] = (
    *(PlainViT(), EvaViT(), Swin(), SwinV2()),
    *(Hiera(), HieraDet(), Gemma4(), Gemma4Encoder(), OtherBackbone()),
)


def family_of(model: torch.nn.Module) -> Family | None:
    """The first family that has a timm model; None where none has it."""
    return next((family for family in FAMILIES if family.has(model)), None)


def has_layers_by_name(name: str) -> bool:
    """Whether layers are defined of a family that is named as `Family.named` does."""
    return any(getattr(family, "kind", None) == name and family.layered for family in FAMILIES)


def refuse_layers(what: str, name: str, remedy: str) -> UserError:
    """The refusal of a backbone whose layers are not defined: what wants them, and what helps."""
    ours = "; ".join(dict.fromkeys(family.layered for family in FAMILIES if family.layered))
    return UserError(
        f'{what} with backbone.name = "{name}": its layers are not defined, as they are of {ours}: '
        f"{remedy}, or name one of these"
    )
