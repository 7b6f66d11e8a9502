"""Published values for mouse FX10, shown as faint markers beside our own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Published:
    """Mean FEVE of a published condition; DINOv3 weights, 4,792 neurons, 3,040 of them valid."""

    model: str
    tuning: str
    block: float | None
    feve: float
    input_size: str = "64x128"


_S, _B = "vit_small_patch16_dinov3", "vit_base_patch16_dinov3"

#: The authors' best blocks (0-based) and values; "3-4" is drawn between them.
PUBLISHED = (
    Published(model="cnn_fullmodel", tuning="full", block=None, feve=0.6654, input_size="66x130"),
    Published(model=_S, tuning="frozen", block=4, feve=0.3234),
    Published(model=_S, tuning="last1", block=3, feve=0.4896),
    Published(model=_S, tuning="last2", block=3.5, feve=0.52),
    Published(model=_S, tuning="last4", block=4, feve=0.5449),
    Published(model=_B, tuning="frozen", block=3, feve=0.3787),
    Published(model=_B, tuning="last1", block=3, feve=0.4712),
    Published(model=_B, tuning="last4", block=3, feve=0.5309),
    Published(model=_B, tuning="last4", block=3, feve=0.6352, input_size="128x256"),
)


def published_for(identity: Mapping[Any, Any]) -> list[Published]:
    """Published values of a condition of recording FX10, patch tokens; none for any other."""
    if identity["recording"] != "FX10" or identity["tokens"] == "cls":
        return []
    model = str(identity["model"]).partition(".")[0]
    return [
        p
        for p in PUBLISHED
        if (p.model, p.tuning, p.input_size) == (model, identity["tuning"], identity["input_size"])
    ]
