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
from stages.readouts.als.alternating import Factors
from stages.readouts.als.fit import polished_readouts, reduced_tokens
from stages.readouts.als.groups import Candidates, Polished, polish_group, solve_group
from stages.readouts.als.memory import plan_memory, problem_of
from stages.readouts.als.pca import ChannelMoments, Components, ReducedTokens, shard_moments
from stages.readouts.als.penalties import HeldOutErrors
from stages.readouts.als.predictor import Predictor
from stages.readouts.als.sufficient_statistics import shard_products
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
    """

    source: FitSource
    settings: ALSSettings
    folder: Path
    first: int
    last: int
    chosen: NDArray[np.int64] | None = None

    def file(self, name: str) -> Path:
        """Where this part's result of a kind is."""
        return self.folder / f"{name}-{self.first}-{self.last}.pt"


class FittedGroup(NamedTuple):
    """One group of neurons at the end: its part of an `Outcome`, readouts not yet put together."""

    polished: Polished
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
    products = shard_products(
        ReducedTokens(part.source.training_tokens(), components, keep=False),
        (part.first, part.last),
        rows_at_once=plan.rows_at_once,
    )
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
        candidates, errors = solve_group(data, tokens, _products(part), settings)
    path = [(*predictor.factors, predictor.bias) for predictor in candidates.path]
    save_values(part.file("path"), {"path": path, "mean_tokens": candidates.mean_tokens})
    return errors


@torch.inference_mode()
def polish_neurons(part: Part) -> FittedGroup:
    """Readouts of one group of neurons from the fits that were chosen."""
    assert part.chosen is not None
    source, settings = part.source, part.settings
    components, solved = _components(part), load_values(part.file("path"))
    path = [Predictor(Factors(*factors), bias) for *factors, bias in solved["path"]]
    with source.opened(slice(part.first, part.last)) as (data, scale, test):
        polished = polish_group(
            data,
            reduced_tokens(data, settings, components),
            _products(part),
            Candidates(path=path, mean_tokens=solved["mean_tokens"]),
            torch.from_numpy(part.chosen),
            settings,
        )
        readouts = replace(polished_readouts([polished], components), scale=scale)
        validation = predict(readouts, data.x_validation, source.device)
        return FittedGroup(
            polished=polished,
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


def _products(part: Part) -> torch.Tensor:
    products: torch.Tensor = load_values(part.folder / "products.pt")["products"]
    return products
