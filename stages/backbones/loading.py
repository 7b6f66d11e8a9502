"""Trained weights of a backbone: found in a file or on the hub, checked, and loaded."""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from cache import UserError
from stages.backbones.checkpoint import MisfitError, load_weights, patch_size, read_weights
from stages.backbones.families import Family
from stages.backbones.settings import BackboneSettings
from stages.backbones.timm_import import timm
from stages.backbones.weights import WeightsIdentity, file_identity


def load_trained(model: Any, family: Family, settings: BackboneSettings) -> WeightsIdentity:
    """Put the weights of a file, or of the hub, into a model.

    Raises
    ------
    UserError
        Weights that are missing, unreadable or of another architecture or patch size; a hub that
        cannot be reached.
    """
    if settings.weights == "hub":
        path, source = _hub_file(settings.name, model), "hub"
    else:
        path, source = Path(settings.weights), "file"
        given = f'backbone.weights = "{settings.weights}"'
        if not path.is_file():
            raise UserError(
                f'{given}: no such file; give "hub", "random" or the path of a .safetensors or '
                ".pth file"
            )
        if path.suffix.lower() not in (".safetensors", ".pth", ".pt", ".bin"):
            raise UserError(
                f"{given}: cannot read {path.suffix or 'no suffix'}, only .safetensors and .pth "
                "(.pt, .bin) files"
            )
    if path.suffix.lower() != ".safetensors" and _is_compressed(path):
        raise UserError(
            f"weights {path} are compressed, as torch never saves them, and might take all memory: "
            "do not trust them, or save them again with torch.save"
        )
    identity = file_identity(path, source=source)
    try:
        checkpoint = read_weights(path, model.state_dict().keys())
    except (RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError, KeyError) as error:
        raise UserError(
            f"weights {path} cannot be read as a checkpoint of {settings.name}: {one_line(error)}"
        ) from None
    _check_patch_size(patch_size(checkpoint), model, settings, path)
    try:
        adapted = load_weights(checkpoint, model, family)
    except (RuntimeError, KeyError, MisfitError) as error:
        raise UserError(
            f"weights {path} do not fit {settings.name}: {one_line(error)}; name the model they "
            "were made for"
        ) from None
    if file_identity(path, source=source) != identity:
        raise UserError(f"weights {path} changed while they were read: run again")
    return replace(identity, adapted=adapted)


def _is_compressed(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())


def _check_patch_size(
    found: tuple[int, ...] | None, model: Any, settings: BackboneSettings, path: Path
) -> None:
    """Refuse patches of another size than the model's, unless they are to be resampled from it."""
    wanted = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if found is None or not isinstance(wanted, tuple) or found == wanted:
        return
    with torch.device("meta"):
        named: Any = timm.create_model(settings.name, pretrained=False)
    own = tuple(named.patch_embed.patch_size)
    if found != own:
        raise UserError(
            f"weights {path} have patches of {found[0]}x{found[1]} pixels, {settings.name} has "
            f"{own[0]}x{own[1]}: name the model they were made for; backbone.patch_size resamples"
        )


def _hub_file(name: str, model: Any) -> Path:
    """The checkpoint in the hub's own cache folder, fetched if it is not there yet."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    repository = model.pretrained_cfg.get("hf_hub_id")
    if not repository:
        raise UserError(
            f'backbone.name = "{name}" has no weights on the hub: add its tag (for example '
            '".lvd1689m"), or set backbone.weights to a file or "random"'
        )
    try:
        return Path(hf_hub_download(repository.strip("/"), "model.safetensors"))
    except (OSError, HfHubHTTPError) as error:
        raise UserError(
            f"weights of {name} cannot be fetched from the hub ({type(error).__name__}): download "
            f"model.safetensors of {repository} where the hub can be reached and set "
            "backbone.weights to its path"
        ) from None


def one_line(error: BaseException) -> str:
    """What an error says, in one line that is not too long."""
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:200] + "..."
