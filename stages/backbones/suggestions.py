"""The model of timm that was probably meant, by its family, size and patch."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

#: How people write sizes, in names such as "vits14" or "dinov2-small".
_SIZES = {"t": "tiny", "ti": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge",
          "g": "giant"}  # fmt: skip

_VIT = re.compile(r"vit[-_]?(ti|[tsblhg])[-_/]?(\d*)(?![a-z0-9])")


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
