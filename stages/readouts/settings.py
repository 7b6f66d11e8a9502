"""Settings of the readouts: their tokens, blocks and solver."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from stages.readouts.solver_settings import AdamWSettings, ALSSettings
from stages.readouts.solvers import SOLVERS
from stages.settings import DISTINCT, STRICT


def _known_solver(name: str) -> str:
    """A solver's name, refused where there is no such solver."""
    if name not in SOLVERS:
        raise PydanticCustomError(
            "unknown_solver", "choose one of {known}", {"known": ", ".join(SOLVERS)}
        )
    return name


#: A block of a backbone, as `CombineSettings` names it.
_SOURCE = re.compile(r"(.+):(-?\d+)")


def _source(text: str) -> str:
    """A source's name, refused where it names no block."""
    if _SOURCE.fullmatch(text) is None:
        raise PydanticCustomError(
            "source",
            'expected "backbone:block", such as "vit_small_patch16_dinov3.lvd1689m:4"',
        )
    return text


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CombineSettings:
    """Blocks of one or several backbones that one readout reads.

    Parameters
    ----------
    sources : sequence of str
        What results call a backbone, a colon, and its block, such as
        "vit_small_patch16_dinov3.lvd1689m:4".
    tokens : str
        "patch", or "cls" where all have a CLS token.
    resample : str
        How patches come to the places of the source with the most of them: from the nearest place,
        or from the four nearest.
    """

    sources: Annotated[
        tuple[Annotated[str, AfterValidator(_source)], ...], Field(min_length=2), DISTINCT
    ]
    tokens: Literal["patch", "cls"] = "patch"
    resample: Literal["nearest", "bilinear"] = "nearest"

    @property
    def blocks(self) -> list[tuple[str, int]]:
        """Backbone and block of every source; blocks may be negative."""
        named = (text.rpartition(":") for text in self.sources)
        return [(backbone, int(block)) for backbone, _, block in named]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ReadoutSettings:
    """Which tokens of which blocks the readouts read, and how they are fitted.

    Parameters
    ----------
    tokens : sequence of str
        Kinds of tokens: "patch", "cls", or both, each in readouts of their own. By default those of
        them that the backbone has.
    blocks : str or sequence of int
        One readout per block.
    joint_blocks : sequence of sequence of int
        Besides, readouts over the concatenated channels of several blocks.
    combine : sequence of CombineSettings
        Besides, readouts over blocks of several backbones, or of several grids.
    solver : str
        "als", "adamw", or another name that is registered in `stages.readouts.SOLVERS`.
    als, adamw : settings
        Of the solvers of these names.
    """

    tokens: Annotated[tuple[Literal["patch", "cls"], ...] | None, DISTINCT] = None
    blocks: Annotated[Literal["all"] | tuple[int, ...], DISTINCT] = "all"
    joint_blocks: tuple[Annotated[tuple[int, ...], Field(min_length=2)], ...] = ()
    combine: tuple[CombineSettings, ...] = ()
    solver: Annotated[str, AfterValidator(_known_solver)] = "als"
    als: ALSSettings = Field(default_factory=ALSSettings)
    adamw: AdamWSettings = Field(default_factory=AdamWSettings)

    def kinds(self, *, has_cls: bool) -> tuple[str, ...]:
        """The kinds of tokens that are read of a backbone with or without a CLS token."""
        return self.tokens or (("patch", "cls") if has_cls else ("patch",))

    @property
    def of_solver(self) -> Any:
        """Settings of the chosen solver: its own table, or its defaults where it has none here."""
        kind = SOLVERS[self.solver].settings
        own = getattr(self, self.solver, None)
        return own if isinstance(own, kind) else kind()
