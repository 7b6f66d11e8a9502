"""Checkpoint files: unwrapped by name, converted, and nothing of them lost without a word."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from stages.backbones.families import Family
from stages.backbones.timm_import import timm

#: Names under which checkpoints keep a model, the preferred first: an average before a model that
#: is trained, DINO's teacher before its student.
_NESTS = (
    *("state_dict_ema", "model_ema", "state_dict", "model"),
    *("teacher", "module", "student", "encoder"),
)
#: The same in the names of parameters.
_WRAPPED = re.compile(
    r"((?:(?:_orig_mod|module|model|backbone|encoder|teacher|student)\.)+)"
    r"(?=cls_token$|patch_embed\.)"
)


class MisfitError(Exception):
    """What of a checkpoint a model cannot take."""


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """Parameters of a file by name, and what was chosen among its contents."""

    state: dict[str, torch.Tensor]
    said: tuple[str, ...]


def read_weights(path: Path) -> WeightsFile:
    """Read a .safetensors or .pth file, and unwrap what it nests; errors are those of torch."""
    if path.suffix.lower() == ".safetensors":
        content: Any = load_file(path)
    else:
        # timm's training keeps its arguments beside the weights.
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    said = []
    while isinstance(content, Mapping):
        nests = [name for name in _NESTS if isinstance(content.get(name), Mapping)]
        if not nests:
            break
        beside = f" (beside {', '.join(nests[1:])})" if nests[1:] else ""
        said.append(f"read from {nests[0]}{beside}")
        content = content[nests[0]]
    if not isinstance(content, Mapping):
        raise KeyError("no state dict")
    state = timm.models.clean_state_dict(
        {name: value for name, value in content.items() if isinstance(value, torch.Tensor)}
    )
    found = {match[1] for name in state if (match := _WRAPPED.match(name))}
    if found and "cls_token" not in state:
        chosen = min(found, key=lambda p: ("student." in p, "teacher." not in p, len(p)))
        others = sorted(found - {chosen})
        said.append(f"read from {chosen}*" + (f" (beside {', '.join(others)})" if others else ""))
        state = {
            name.removeprefix(chosen): value
            for name, value in state.items()
            if name.startswith(chosen)
        }
    return WeightsFile(state=state, said=tuple(said))


def load_weights(checkpoint: WeightsFile, model: Any, family: Family) -> tuple[str, ...]:
    """Load a checkpoint into a model; returns what was chosen, left out and resampled.

    Raises
    ------
    MisfitError
        Numbers that are not zero, of which tokens may depend, and for which there is no place.
    RuntimeError
        Parameters that the file lacks, or of other shapes.
    """
    state = _without_masks(checkpoint.state)
    with torch.enable_grad():
        leaves = {
            name: value.detach().requires_grad_(value.is_floating_point())
            for name, value in state.items()
        }
        # It takes entries out of the mapping that it is given.
        converted = family.convert(dict(leaves), model)
        named = set(model.state_dict())
        taken = {name: value for name, value in converted.items() if name in named}
        lost = _lost(leaves, taken)
    misfits = [name for name in lost if family.decides(name, model)]
    if misfits:
        raise MisfitError(
            f"{misfits[0]} and {len(misfits) - 1} more of its parameters are not zero, and the "
            "model has no place for them"
        )
    _require_periods(state, model)
    model.load_state_dict({name: value.detach() for name, value in taken.items()}, strict=True)
    said = list(checkpoint.said)
    if lost:
        heads = sorted({name.partition(".")[0] for name in lost})
        said.append(f"left out {len(lost)} parameters ({', '.join(heads)})")
    for name, what in (("patch_embed.proj.weight", "patch"), ("pos_embed", "position")):
        before, after = (side.get(name) for side in (state, taken))
        if before is not None and after is not None and before.shape != after.shape:
            shapes = ["x".join(map(str, side.shape)) for side in (before, after)]
            said.append(f"{what} embedding resampled from {shapes[0]} to {shapes[1]}")
    return tuple(said)


def patch_size(checkpoint: WeightsFile) -> tuple[int, ...] | None:
    """Rows and columns of the file's own patches; None where it does not tell them."""
    weight = checkpoint.state.get("patch_embed.proj.weight")
    return tuple(weight.shape[-2:]) if weight is not None and weight.ndim == 4 else None


def _without_masks(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Biases as they act: DINOv3's own code multiplies them by a mask, 0 for the keys."""
    masks = {name.removesuffix("_mask"): v for name, v in state.items() if name.endswith("_mask")}
    masks = {name: mask for name, mask in masks.items() if name.endswith("qkv.bias")}
    return {
        name: torch.where(masks[name] != 0, value * masks[name], 0) if name in masks else value
        for name, value in state.items()
        if not name.endswith("qkv.bias_mask")
    }


def _lost(leaves: Mapping[str, torch.Tensor], taken: Mapping[str, torch.Tensor]) -> list[str]:
    """Names of the file with a number, not zero, on which no parameter of the model depends.

    A parameter depends on a number if its derivative with respect to it is not zero.
    """
    whole = {id(value) for value in taken.values()}
    others = {name: leaf for name, leaf in leaves.items() if id(leaf) not in whole}
    asked = {name: leaf for name, leaf in others.items() if leaf.requires_grad}
    made = [v for v in taken.values() if v.requires_grad and not v.is_leaf]
    gradients: dict[str, torch.Tensor | None] = dict.fromkeys(others)
    if made and asked:
        weights = [torch.rand_like(value) + 0.5 for value in made]
        found = torch.autograd.grad(made, list(asked.values()), weights, allow_unused=True)
        gradients |= dict(zip(asked, found, strict=True))
    return [
        name
        for name, leaf in others.items()
        if bool(((leaf != 0) & ((g := gradients[name]) is None or g == 0)).any())
    ]


def _require_periods(state: Mapping[str, torch.Tensor], model: Any) -> None:
    """Compare the file's rotary periods, which are never loaded, with the model's."""
    own = getattr(getattr(model, "rope", None), "periods", None)
    for name, value in state.items():
        if own is None or not name.endswith(".periods"):
            continue
        # Meta stores them in bfloat16.
        if value.shape != own.shape or not torch.allclose(value.float(), own.float(), rtol=0.01):
            raise MisfitError(f"{name} are not the model's rotary periods")
