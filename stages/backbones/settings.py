"""Settings of the backbone."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from stages.settings import STRICT, InputPath, Positive, PositiveFloat

#: Arguments of timm that other settings decide, or that change what a cache holds.
_ELSEWHERE = {
    "img_size": "set stimuli.input_size",
    "patch_size": "set backbone.patch_size",
    "in_chans": "grey images are seen as three equal channels",
    "num_classes": "tokens are read, and no classes",
    "global_pool": "tokens are read before they are pooled",
    "pretrained": "set backbone.weights",
    "checkpoint_path": "set backbone.weights",
    "scriptable": "it changes no token",
}


def _of_the_model_alone(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments as they are, refused where one is not the model's own."""
    for name in arguments:
        if name in _ELSEWHERE:
            raise PydanticCustomError(
                "argument", "drop {name}: {why}", {"name": name, "why": _ELSEWHERE[name]}
            )
    return arguments


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BackboneSettings:
    """The frozen Vision Transformer.

    Parameters
    ----------
    name : str
        timm name, with the tag of the pretrained weights.
    patch_size : int, optional
        Resample the patch embedding to this size (DINOv2: 14 to 16).
    weights : str
        "hub", "random", or the path of a .safetensors or .pth file.
    precision : str
        "float32", or "bfloat16" for autocast of the forward pass.
    seed, gain : int, float
        For `weights = "random"`.
    arguments : dict
        Further arguments of the timm model, such as depth.
    """

    name: str = "vit_small_patch16_dinov3.lvd1689m"
    patch_size: Positive | None = None
    weights: Annotated[str, InputPath(words=("hub", "random"))] = "hub"
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: Annotated[int, Field(ge=0)] = 0
    gain: PositiveFloat | None = None
    arguments: Annotated[
        dict[str, bool | int | float | str], AfterValidator(_of_the_model_alone)
    ] = Field(default_factory=dict)

    def rescaling(self, factor: float) -> BackboneSettings:
        """The same backbone, made to draw a scale of its rotary coordinates at random in training.

        The scale is between 1 / factor and factor, uniform in its logarithm, one for each batch.
        """
        return replace(self, arguments={**self.arguments, "rope_rescale_coords": factor})
