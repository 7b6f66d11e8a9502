"""List of backbones: what each gives at a size, block by block."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from cache import UserError
from stages.backbones import BackboneSettings, known_models, plan_token_shape

if TYPE_CHECKING:
    from cache import TokenShape
    from pipeline.terminal import Terminal

#: Models whose blocks are told: each is made, without weights, in some tenths of a second.
MOST_TOLD = 25


def list_backbones(pattern: str, size: tuple[int, int], terminal: Terminal) -> None:
    """Print the models whose name holds a pattern; with their blocks, where they are few.

    Raises
    ------
    UserError
        No such model.
    """
    models = known_models(pattern)
    if not models:
        raise UserError(f"no model of timm has {pattern!r} in its name: try a shorter part of it")
    told = len(models) <= MOST_TOLD
    rows: list[dict[str, object]] = []
    document: list[dict[str, object]] = []
    for model in models:
        facts: dict[str, object] = {
            "name": model.name,
            "licence": model.licence or "none named",
            "weights": model.weights or "none",
        }
        blocks, problem = _blocks(model.name, size) if told else ([], None)
        document.append({**facts, "blocks": blocks, **({"problem": problem} if problem else {})})
        rows += list(_lines(blocks, problem, facts)) or [facts]
    rows_said, columns_said = size
    title = f"backbones; grids of images of {rows_said} x {columns_said}" if told else "backbones"
    terminal.table(rows, title=title)
    if not told:
        terminal.note(f"{len(models)} models: a longer pattern tells grids, up to {MOST_TOLD}")
    terminal.document({"input_size": list(size), "models": document})


def _blocks(name: str, size: tuple[int, int]) -> tuple[list[dict[str, Any]], str | None]:
    """Every block of a model, and why it has none at this size."""
    settings = BackboneSettings(name=name, weights="random")
    try:
        shape = plan_token_shape(settings, input_size=size, dtype="float32")
    except UserError as error:
        return [], str(error)
    return [_block(shape, index) for index in range(shape.n_blocks)], None


def _block(shape: TokenShape, index: int) -> dict[str, Any]:
    block = shape.blocks[index]
    return {
        "block": index,
        "stride": None if block.places is None else list(block.places.stride),
        "grid": list(block.grid),
        "channels": block.n_channels,
        "cls": shape.has_cls,
        "registers": shape.n_registers,
    }


def _lines(
    blocks: list[dict[str, Any]], problem: str | None, facts: dict[str, object]
) -> Iterator[dict[str, object]]:
    """Rows of the table: neighbouring blocks that are alike share one."""
    if problem is not None:
        yield {"name": facts["name"], "blocks": "none at this size", **facts}
    for _, alike in groupby(blocks, key=lambda block: {**block, "block": 0}):
        first, *others = alike
        last = others[-1]["block"] if others else first["block"]
        stride = first["stride"]
        yield {
            "name": facts["name"],
            "blocks": f"{first['block']}-{last}" if others else str(last),
            "stride": "?" if stride is None else "x".join(map(str, dict.fromkeys(stride))),
            "grid": "x".join(map(str, first["grid"])),
            "channels": first["channels"],
            "cls": "yes" if first["cls"] else "no",
            "registers": first["registers"],
            **facts,
        }
