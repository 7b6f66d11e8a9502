"""The Vision Transformers of timm: creation, weights, and the tokens of every block."""

from __future__ import annotations

import difflib
import pickle
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError

from cache import TokenKind, TokenShape, UserError
from stages.backbones.checkpoint import MisfitError, load_weights, patch_size, read_weights
from stages.backbones.families import Family, family_of
from stages.backbones.random_weights import randomise
from stages.backbones.settings import BackboneSettings
from stages.backbones.weights import WeightsIdentity, file_identity, random_identity

#: Images per forward pass. Tokens shift a little with the batch that they are computed in.
BATCH = 64

_SUITABLE = 'a plain ViT such as "vit_small_patch16_dinov3.lvd1689m"'


@dataclass(frozen=True, kw_only=True)
class Backbone:
    """A frozen ViT in evaluation mode.

    Parameters
    ----------
    model : torch module
        A timm model.
    family : Family
        The one that the model is of.
    grid : pair of int
        Patches, rows first.
    mean, std : tuple of float
        Normalisation constants of the checkpoint's own configuration.
    precision : str
        "float32" or "bfloat16" (autocast).
    weights : WeightsIdentity
        Source and identity of the weights.
    """

    model: Any
    family: Family
    grid: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    precision: str
    weights: WeightsIdentity

    @property
    def n_blocks(self) -> int:
        """Transformer blocks."""
        return len(self.model.blocks)

    def token_shape(self, dtype: str) -> TokenShape:
        """Shape of what one image yields, stored in `dtype`."""
        return _token_shape(self.model, dtype)

    @torch.inference_mode()
    def tokens(self, images: torch.Tensor) -> list[dict[TokenKind, torch.Tensor]]:
        """Un-normed residual-stream tokens after every block.

        Parameters
        ----------
        images : tensor of shape (n_images, 3, row, column)
            Preprocessed images on the model's device.

        Returns
        -------
        list of dict
            Per block: `patches` of shape (n_images, grid row, grid column, channel), `cls`
            (n_images, channel), and `registers` (n_images, register, channel) where there are any.
        """
        with torch.autocast(
            images.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            outputs = self.model.forward_intermediates(
                images,
                return_prefix_tokens=True,
                norm=False,
                output_fmt="NLC",
                intermediates_only=True,
            )
        tokens: list[dict[TokenKind, torch.Tensor]] = []
        for patches, prefix in outputs:
            tokens.append({"patches": patches.unflatten(1, self.grid), "cls": prefix[:, 0]})
            if prefix.shape[1] > 1:
                tokens[-1]["registers"] = prefix[:, 1:]
        return tokens


def create_backbone(
    settings: BackboneSettings,
    *,
    input_size: tuple[int, int],
    device: torch.device | str = "cpu",
) -> Backbone:
    """Build the architecture at a fixed input size and load its weights.

    Parameters
    ----------
    input_size : pair of int
        Rows and columns in pixels. Patch and position embeddings are resampled once, on loading.

    Raises
    ------
    UserError
        Unknown or unsuitable model; an input the patch size does not divide; weights that are
        missing, unreadable or of another architecture; a hub that cannot be reached.
    """
    model, family = _architecture(settings, input_size)
    if settings.weights == "random":
        weights = random_identity(settings)
        randomise(model, seed=settings.seed, gain=weights.identity["gain"])
    else:
        weights = _load_weights(model, family, settings)
    model.requires_grad_(False).eval()
    config = model.pretrained_cfg
    return Backbone(
        model=model.to(device),
        family=family,
        grid=tuple(model.patch_embed.grid_size),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        precision=settings.precision,
        weights=weights,
    )


def plan_token_shape(
    settings: BackboneSettings, *, input_size: tuple[int, int], dtype: str
) -> TokenShape:
    """Shape of what one image would yield, without weights.

    Raises
    ------
    UserError
        As `create_backbone`, but for the weights.
    """
    with torch.device("meta"):
        model, _ = _architecture(settings, input_size)
    return _token_shape(model, dtype)


def _token_shape(model: Any, dtype: str) -> TokenShape:
    return TokenShape(
        n_blocks=len(model.blocks),
        grid=tuple(model.patch_embed.grid_size),
        n_channels=model.embed_dim,
        n_registers=model.num_prefix_tokens - 1,
        dtype=dtype,
    )


def _architecture(settings: BackboneSettings, input_size: tuple[int, int]) -> tuple[Any, Family]:
    """The model as timm makes it, its weights not those that are asked for, and its family."""
    known = timm.list_models() + timm.list_models(pretrained=True)
    if settings.name not in known:
        near = difflib.get_close_matches(settings.name, known, n=1, cutoff=0.0)[0]
        raise UserError(
            f'backbone.name = "{settings.name}" is not a model of timm; did you mean "{near}"?'
        )
    arguments: dict[str, Any] = {"img_size": input_size, "num_classes": 0, **settings.arguments}
    if settings.patch_size is not None:
        arguments["patch_size"] = settings.patch_size
    try:
        model: Any = timm.create_model(settings.name, pretrained=False, **arguments)
    except TypeError as error:
        raise UserError(
            f'backbone.name = "{settings.name}", arguments = {settings.arguments}: {error}; '
            f"name {_SUITABLE}, with arguments it takes"
        ) from None
    family = family_of(model)
    if family is None or model.cls_token is None:
        raise UserError(
            f'backbone.name = "{settings.name}" is not a Vision Transformer with a CLS token: name '
            f"{_SUITABLE}"
        )
    patch = model.patch_embed.patch_size
    pairs = list(zip(input_size, patch, strict=True))
    if any(size % step for size, step in pairs):
        fitting = [max(step, round(size / step) * step) for size, step in pairs]
        raise UserError(
            f"stimuli.input_size = {list(input_size)} is not a multiple of the patch size "
            f"{patch[0]}x{patch[1]}: use {fitting}, or set backbone.patch_size"
        )
    return model, family


def _load_weights(model: Any, family: Family, settings: BackboneSettings) -> WeightsIdentity:
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
        if path.suffix not in (".safetensors", ".pth", ".pt", ".bin"):
            raise UserError(
                f"{given}: cannot read {path.suffix or 'no suffix'}, only .safetensors and .pth "
                "(.pt, .bin) files"
            )
    try:
        checkpoint = read_weights(path)
    except (RuntimeError, SafetensorError, pickle.UnpicklingError, EOFError, KeyError) as error:
        raise UserError(
            f"weights {path} cannot be read as a checkpoint of {settings.name}: {_one_line(error)}"
        ) from None
    _check_patch_size(patch_size(checkpoint), model, settings, path)
    try:
        adapted = load_weights(checkpoint, model, family)
    except (RuntimeError, KeyError, MisfitError) as error:
        raise UserError(
            f"weights {path} do not fit {settings.name}: {_one_line(error)}; name the model they "
            "were made for"
        ) from None
    return replace(file_identity(path, source=source), adapted=adapted)


def _check_patch_size(
    found: tuple[int, ...] | None, model: Any, settings: BackboneSettings, path: Path
) -> None:
    """Refuse patches of another size than the model's, unless they are to be resampled from it."""
    wanted = tuple(model.patch_embed.patch_size)
    if found is None or found == wanted:
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


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 200 else text[:200] + "..."
