"""The models of timm by name, with their weights and licence; and the one that was meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from stages.backbones.timm_import import timm

#: How people write sizes, in names such as "vits14" or "dinov2-small".
_SIZES = {"t": "tiny", "ti": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge",
          "g": "giant"}  # fmt: skip

_VIT = re.compile(r"vit[-_]?(ti|[tsblhg])[-_/]?(\d*)(?![a-z0-9])")


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


def nearest_model(name: str, known: Sequence[str]) -> str:
    """The known name with most words in common; of several, the one whose letters are nearest.

    Letters alone would call "tiny_vit_21m_384" the nearest of "dinov2_vits14".
    """
    asked = _words(name)
    return max(
        known,
        key=lambda each: (
            len(asked & _words(each)),
            -len(_words(each)),
            difflib.SequenceMatcher(None, name.lower(), each).ratio(),
        ),
    )


def _words(name: str) -> set[str]:
    """The words of a name: "dinov2_vits14" has dinov2, vit, small and patch14."""
    spelt = _VIT.sub(lambda found: f"vit {_SIZES[found[1]]} patch{found[2]}", name.lower())
    return set(re.split(r"[^a-z0-9]+", spelt)) - {"", "patch"}
