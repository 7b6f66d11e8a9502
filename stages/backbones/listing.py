"""The models of timm by name, with their weights and licence."""

from __future__ import annotations

from dataclasses import dataclass

import timm


@dataclass(frozen=True, kw_only=True)
class KnownModel:
    """A model that `backbone.name` can name.

    Parameters
    ----------
    name : str
        With the tag of its weights.
    weights : str, optional
        Repository of the weights on the hub; None where there are none.
    licence : str, optional
        Of the weights, as timm has it.
    """

    name: str
    weights: str | None
    licence: str | None


def known_models(pattern: str = "") -> list[KnownModel]:
    """Models whose name holds a pattern, with `*` for anything: those with weights on the hub.

    Where there are none, those without.
    """
    asked = f"*{pattern}*"
    names = timm.list_models(asked, pretrained=True) or timm.list_models(asked)
    return [_known(name) for name in names]


def _known(name: str) -> KnownModel:
    config = timm.get_pretrained_cfg(name)
    weights = config.hf_hub_id if config is not None and config.hf_hub_id else None
    licence = config.license if config is not None and weights else None
    return KnownModel(name=name, weights=weights, licence=licence)
