"""Parts of a divided fit, as workers compute them: each names its source, files and a range.

Each leaves its result in a file of the fit's folder, whole or not at all: a part whose worker died
is computed again, and gives the same.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cache import replaced
from stages.readouts.als.fit import finished_readouts, reduced_tokens
from stages.readouts.als.groups import Finished, finish_group, solve_group
from stages.readouts.als.memory import plan_memory, problem_of
from stages.readouts.als.pca import ChannelMoments, Components, ReducedTokens, shard_moments
from stages.readouts.als.penalties import HeldOutErrors
from stages.readouts.als.predictor import Path as Predictors
from stages.readouts.als.trials.ways import FitProducts, shard_products_of
from stages.readouts.readout import predict
from stages.readouts.solver_protocol import FitSource
from stages.readouts.solver_settings import ALSSettings
from stages.scores import variance_explained


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of one condition's fit.

    Parameters
    ----------
    source : FitSource
    settings : ALSSettings
    folder : path
        Where all parts of this condition leave their results.
    first, last : int
        The training trials, or the neurons, first <= i < last.
    chosen : array of shape (n_neurons,), optional
        Position of each neuron's penalty.
    held_out : bool
        The trials are validation trials.
    """

    source: FitSource
    settings: ALSSettings
    folder: Path
    first: int
    last: int
    chosen: NDArray[np.int64] | None = None
    held_out: bool = False

    def file(self, name: str) -> Path:
        """Where this part's result of a kind is."""
        kind = f"held-out-{name}" if self.held_out else name
        return self.folder / f"{kind}-{self.first}-{self.last}.pt"


class FittedGroup(NamedTuple):
    """One group of neurons at the end: its part of an `Outcome`, readouts not yet put together."""

    finished: Finished
    scale: NDArray[np.float32]
    test_predictions: NDArray[np.float32]
    explained: NDArray[np.floating[Any]]


@torch.inference_mode()
def moments_of_shard(part: Part) -> Path:
    """Moments of the channels over one shard of training trials."""
    moments = shard_moments(
        part.source.training_tokens(),
        (part.first, part.last),
        max_images=part.settings.basis_images,
        device=torch.device("cpu"),
    )
    return save_values(part.file("moments"), vars(moments))


@torch.inference_mode()
def products_of_shard(part: Part) -> Path:
    """Products of the reduced tokens over one shard of training trials."""
    components = _components(part)
    size = replace(part.source.size, n_neurons=1)
    plan = plan_memory(problem_of(size, part.settings), part.source.memory_limit)
    source = part.source
    tokens = source.validation_tokens() if part.held_out else source.training_tokens()
    reduced = ReducedTokens(tokens, components, keep=False)
    products = shard_products_of(reduced, plan, (part.first, part.last))
    return save_values(part.file("products"), {"products": products})


def add_files(files: Sequence[Path]) -> Path:
    """A file of the sum of some files' contents, added in this order; the files are deleted."""
    sum_file = files[0].with_name(f"{files[0].stem}-sum.pt")
    if sum_file.exists():
        return sum_file

    def content(file: Path) -> Any:
        loaded = load_values(file)
        return ChannelMoments(**loaded) if "scatter" in loaded else loaded["products"]

    total = reduce(operator.add, map(content, files))
    values = vars(total) if isinstance(total, ChannelMoments) else {"products": total}
    save_values(sum_file, values)
    for file in files:
        file.unlink(missing_ok=True)
    return sum_file


@torch.inference_mode()
def solve_neurons(part: Part) -> HeldOutErrors:
    """Least-squares fits of one group of neurons."""
    settings = part.settings
    with part.source.opened(slice(part.first, part.last)) as (data, _, _):
        tokens = reduced_tokens(data, settings, _components(part), once=True)
        path, errors = solve_group(data, tokens, _products(part).training, settings)
    save_values(part.file("path"), path._asdict())
    return errors


@torch.inference_mode()
def finish_neurons(part: Part) -> FittedGroup:
    """Readouts of one group of neurons from the fits that were chosen."""
    assert part.chosen is not None
    source, settings, components = part.source, part.settings, _components(part)
    with source.opened(slice(part.first, part.last)) as (data, scale, test):
        finished = finish_group(
            data,
            reduced_tokens(data, settings, components),
            _products(part),
            Predictors(**load_values(part.file("path"))),
            torch.from_numpy(part.chosen),
            settings,
        )
        readouts = finished_readouts([finished], components).scaled(scale)
        validation = predict(readouts.held_out, data.x_validation, source.device)
        return FittedGroup(
            finished=finished,
            scale=scale,
            test_predictions=predict(readouts, test, source.device),
            explained=variance_explained(data.r_validation.numpy() * scale, validation),
        )


def save_values(path: Path, values: dict[str, Any]) -> Path:
    """Write tensors to a file, whole or not at all, whichever process writes the same."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with replaced(path, temporary=temporary) as file:
        torch.save(values, file)
    return path


def load_values(path: Path) -> dict[str, Any]:
    """From `save_values`."""
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded


def _components(part: Part) -> Components:
    return Components(**load_values(part.folder / "components.pt"))


def _products(part: Part) -> FitProducts:
    training = load_values(part.folder / "products.pt")["products"]
    held_out_path = part.folder / "held-out-products.pt"
    if not held_out_path.exists():
        return FitProducts(training, None)
    held_out = load_values(held_out_path)["products"]
    return FitProducts(training, training + held_out)
