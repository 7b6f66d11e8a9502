"""Settings of the backbone."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator
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

#: Changes in a label that decide how finely tokens lie.
_SAMPLING = re.compile(r"\+(stride|patch)(\d+)((?:-overlap)?(?:-reflect)?)(?=\+|$)")


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
    """The frozen backbone.

    Parameters
    ----------
    name : str
        timm name, with the tag of the pretrained weights.
    patch_size : int, optional
        Resample the patch embedding to this size (DINOv2: 14 to 16).
    stride : int, optional
        Pixels from token to token, a divisor of the patch size; the patch size by default.
    dense : str, optional
        Whence tokens between the patches come where there is a stride. "shift" (default): passes
        over shifted images, interleaved. "overlap": one pass over patches that overlap.
    pad : str, optional
        "reflect" for `dense = "overlap"`: mirror the image at its lower and right edge, so that the
        grid is as large as that of "shift", which always does.
    weights : str
        "hub", "random" as a control, or the path of a .safetensors or .pth file.
    precision : str
        "float32", or "bfloat16" for autocast of the forward pass.
    seed, gain : int, float
        For `weights = "random"`.
    arguments : dict
        Further arguments of the timm model, such as depth.
    """

    name: str = "vit_small_patch16_dinov3.lvd1689m"
    patch_size: Positive | None = None
    stride: Positive | None = None
    dense: Literal["shift", "overlap"] | None = None
    pad: Literal["reflect"] | None = None
    weights: Annotated[str, InputPath(words=("hub", "random"))] = "hub"
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: Annotated[int, Field(ge=0)] = 0
    gain: PositiveFloat | None = None
    arguments: Annotated[
        dict[str, bool | int | float | str], AfterValidator(_of_the_model_alone)
    ] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_a_stride(self) -> Self:
        if self.stride is None and (self.dense or self.pad):
            key, value = ("dense", self.dense) if self.dense else ("pad", self.pad)
            raise PydanticCustomError(
                "dense", '{key} = "{value}" needs a stride: add stride, or drop {key}',
                {"key": key, "value": value},
            )  # fmt: skip
        if self.pad is not None and self.dense != "overlap":
            raise PydanticCustomError(
                "pad",
                'pad = "reflect" is for dense = "overlap" ("shift" always reflects): set dense, or '
                "drop pad",
            )
        return self

    def spacing(self) -> dict[str, Any]:
        """What of the settings decides where tokens lie, besides the patch size; empty by default.

        The default is written out, so that it is one identity with what asks for it.
        """
        if self.stride is None:
            return {}
        pad = {} if self.pad is None else {"pad": self.pad}
        return {"stride": self.stride, "dense": self.dense or "shift", **pad}

    def label(self, *, telling: Collection[str] = ()) -> str:
        """What results call it: its name, and what was changed of the model, joined by "+".

        Such as "vit_small_patch16_dinov3.lvd1689m+stride8-overlap". Patch size and weights are said
        where they are `telling`: where experiments have several.
        """
        said = [self.name]
        if self.patch_size is not None and "patch_size" in telling:
            said.append(f"patch{self.patch_size}")
        if self.stride is not None:
            how = [] if self.dense != "overlap" else ["overlap", *filter(None, [self.pad])]
            said.append("-".join([f"stride{self.stride}", *how]))
        if self.weights != "hub" and "weights" in telling:
            said.append("random" if self.weights == "random" else Path(self.weights).stem)
        return "+".join(said)

    def rescaling(self, factor: float) -> BackboneSettings:
        """The same backbone, made to draw a scale of its rotary coordinates at random in training.

        The scale is between 1 / factor and factor, uniform in its logarithm, one for each batch.
        """
        return replace(self, arguments={**self.arguments, "rope_rescale_coords": factor})


def unsampled(label: str) -> str:
    """A `BackboneSettings.label` without its patch size and stride: the backbone itself."""
    return _SAMPLING.sub("", label)


def sampled_like(label: str) -> str:
    """A label without the number of its stride, or of its patch size where it has no stride.

    Labels that differ in that number alone have this in common.
    """
    by_stride = "+stride" in label
    return _SAMPLING.sub(
        lambda m: f"+{m[1]}{m[3]}" if by_stride == (m[1] == "stride") else m[0], label
    )
