"""Parts of a divided fit, as workers compute them: each names its source, files and a range.

Each leaves its result in a file of the fit's folder, whole or not at all: a part whose worker died
is computed again, and gives the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cache import replaced
from stages.readouts.als.alternating import Factors
from stages.readouts.als.fit import polished_readouts, reduced_tokens
from stages.readouts.als.groups import (
    Candidates,
    Polished,
    Scores,
    TokenSums,
    polish_group,
    solve_group,
)
from stages.readouts.als.memory import plan_memory, problem_of
from stages.readouts.als.pca import ChannelMoments, Components, ReducedTokens, shard_moments
from stages.readouts.als.predictor import Predictor
from stages.readouts.als.sufficient_statistics import shard_products
from stages.readouts.readout import predict
from stages.readouts.solver_protocol import FitSource
from stages.readouts.solver_settings import ALSSettings
from stages.scores import variance_explained

_CPU = torch.device("cpu")
_FACTORS = ("row", "column", "channel")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of one condition's fit.

    Parameters
    ----------
    source : FitSource
        Trials of the condition.
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


@dataclass(frozen=True, kw_only=True)
class Addition:
    """Files whose contents are added, in this order, and where the sum goes."""

    files: tuple[Path, ...]
    total: Path


@dataclass(frozen=True, kw_only=True)
class FittedGroup:
    """One group of neurons at the end: rows of the result.

    Parameters
    ----------
    polished : Polished
        Weights of the components.
    scale : array of shape (n_neurons,)
        What the responses were divided by.
    test_predictions : array of shape (n_test, n_neurons)
    explained : array of shape (n_neurons,)
        Variance explained on the validation trials.
    """

    polished: Polished
    scale: NDArray[np.float32]
    test_predictions: NDArray[np.float32]
    explained: NDArray[np.floating[Any]]


@torch.inference_mode()
def moments_of_shard(part: Part) -> Path:
    """Moments of the channels over one shard of training trials."""
    moments = shard_moments(
        part.source.training_tokens(),
        part.first,
        part.last,
        max_images=part.settings.basis_images,
        device=_CPU,
    )
    return _save(part.file("moments"), vars(moments))


@torch.inference_mode()
def products_of_shard(part: Part) -> Path:
    """Products of the reduced tokens over one shard of training trials."""
    components = load_components(part.folder)
    size = replace(part.source.size, n_neurons=1)
    plan = plan_memory(problem_of(size, part.settings), part.source.memory_limit)
    products = shard_products(
        ReducedTokens(part.source.training_tokens(), components, keep=False),
        part.first,
        part.last,
        rows_at_once=plan.rows_at_once,
    )
    return _save(part.file("products"), {"products": products})


def add_files(addition: Addition) -> Path:
    """The sum of some files' contents; the files are deleted."""
    if addition.total.exists():
        return addition.total
    total: Any = None
    for file in addition.files:
        loaded = _load(file)
        value: Any = ChannelMoments(**loaded) if "scatter" in loaded else loaded["products"]
        total = value if total is None else total + value
    _save(addition.total, vars(total) if isinstance(total, ChannelMoments) else {"products": total})
    for file in addition.files:
        file.unlink(missing_ok=True)
    return addition.total


@torch.inference_mode()
def solve_neurons(part: Part) -> Scores:
    """Least-squares fits of one group of neurons."""
    settings = part.settings
    with part.source.opened(slice(part.first, part.last)) as (data, _, _):
        components, known = _known(part.folder)
        tokens = reduced_tokens(data, settings, components, once=True)
        candidates, scores = solve_group(data, tokens, known, settings)
    path = {
        f"{name}{number}": getattr(predictor.factors, name)
        for number, predictor in enumerate(candidates.path)
        for name in _FACTORS
    }
    biases = torch.stack([predictor.bias for predictor in candidates.path])
    _save(part.file("path"), path | {"bias": biases, "mean_tokens": candidates.mean_tokens})
    return scores


@torch.inference_mode()
def polish_neurons(part: Part) -> FittedGroup:
    """Readouts of one group of neurons from the fits that were chosen."""
    assert part.chosen is not None
    source, settings = part.source, part.settings
    with source.opened(slice(part.first, part.last)) as (data, scale, test):
        components, known = _known(part.folder)
        polished = polish_group(
            data,
            reduced_tokens(data, settings, components),
            known,
            _candidates(part),
            torch.from_numpy(part.chosen),
            settings,
        )
        variances = data.r_validation.var(dim=0, correction=0)
        readouts = replace(polished_readouts([polished], components, variances), scale=scale)
        validation = predict(readouts, data.x_validation, source.device)
        return FittedGroup(
            polished=polished,
            scale=scale,
            test_predictions=predict(readouts, test, source.device),
            explained=variance_explained(data.r_validation.numpy() * scale, validation),
        )


def load_moments(file: Path) -> ChannelMoments:
    """Moments from the file of a sum."""
    return ChannelMoments(**_load(file))


def save_components(folder: Path, components: Components) -> None:
    """For all parts to come."""
    _save(folder / "components.pt", vars(components))


def load_components(folder: Path) -> Components:
    """From `save_components`."""
    return Components(**_load(folder / "components.pt"))


def _known(folder: Path) -> tuple[Components, TokenSums]:
    components = load_components(folder)
    products = _load(folder / "products.pt")["products"]
    return components, TokenSums(components=components, products=products)


def _candidates(part: Part) -> Candidates:
    """What `solve_neurons` saved."""
    stored = _load(part.file("path"))
    path = [
        Predictor(Factors(*(stored[f"{name}{number}"] for name in _FACTORS)), bias)
        for number, bias in enumerate(stored["bias"])
    ]
    return Candidates(path=path, mean_tokens=stored["mean_tokens"])


def _save(path: Path, values: dict[str, Any]) -> Path:
    temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
    with replaced(path, temporary=temporary) as file:
        torch.save(values, file)
    return path


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded
