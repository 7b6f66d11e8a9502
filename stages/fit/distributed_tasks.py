"""What workers compute of a divided fit: parts that name stores, files and ranges.

Each leaves its result in a file of the fit's folder, whole or not at all: a part whose worker died
is computed again, and gives the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stages.fit.inputs import FitTokens, cached_tokens, fit_tokens, problem_of, trials_of
from stages.fit.task import FitTask
from stages.readouts.als.alternating import Factors
from stages.readouts.als.groups import (
    Candidates,
    Polished,
    Scores,
    TokenSums,
    polish_group,
    solve_group,
)
from stages.readouts.als.memory import plan_memory
from stages.readouts.als.pca import Components, Moments, ReducedTokens, shard_moments
from stages.readouts.als.predictor import Predictor
from stages.readouts.als.solver import polished_readouts, reduced_tokens
from stages.readouts.als.sufficient_statistics import shard_products
from stages.readouts.data import FitData
from stages.readouts.readout import predict
from stages.readouts.solvers import fit_data
from stages.scores import variance_explained

_CPU = torch.device("cpu")
_FACTORS = ("row", "column", "channel")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of one condition's fit.

    Parameters
    ----------
    task : FitTask
        The condition.
    folder : path
        Where all parts of this condition leave their results.
    first, last : int
        The training trials, or the neurons, first <= i < last.
    chosen : array of shape (n_neurons,), optional
        Position of each neuron's penalty.
    """

    task: FitTask
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
class Rows:
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
def sum_moments(part: Part) -> Path:
    """Moments of the channels over one shard of training trials."""
    moments = shard_moments(
        _training(part.task),
        part.first,
        part.last,
        max_images=part.task.settings.als.basis_images,
        device=_CPU,
    )
    return _save(part.file("moments"), vars(moments))


@torch.inference_mode()
def sum_products(part: Part) -> Path:
    """Products of the reduced tokens over one shard of training trials."""
    components = load_components(part.folder)
    plan = plan_memory(replace(problem_of(part.task), n_neurons=1), part.task.memory_limit)
    products = shard_products(
        ReducedTokens(_training(part.task), components, keep=False),
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
        value: Any = Moments(**loaded) if "scatter" in loaded else loaded["products"]
        total = value if total is None else total + value
    _save(addition.total, vars(total) if isinstance(total, Moments) else {"products": total})
    for file in addition.files:
        file.unlink(missing_ok=True)
    return addition.total


@torch.inference_mode()
def solve_neurons(part: Part) -> Scores:
    """Least-squares fits of one group of neurons."""
    settings = part.task.settings.als
    with _data(part) as (_, data, _):
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
def polish_neurons(part: Part) -> Rows:
    """Readouts of one group of neurons from the fits that were chosen."""
    assert part.chosen is not None
    task, settings = part.task, part.task.settings.als
    with _data(part) as (tokens, data, scale):
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
        validation = predict(readouts, tokens.validation, task.device)
        return Rows(
            polished=polished,
            scale=scale,
            test_predictions=predict(readouts, tokens.test, task.device),
            explained=variance_explained(data.r_validation.numpy() * scale, validation),
        )


def load_moments(file: Path) -> Moments:
    """Moments from the file of a sum."""
    return Moments(**_load(file))


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


def _training(task: FitTask) -> Any:
    """Tokens of the training trials, streamed."""
    tokens, (_, n_training, *_) = cached_tokens(task, trials_of(task))
    return replace(tokens, image_ids=tokens.image_ids[:n_training])


@contextmanager
def _data(part: Part) -> Iterator[tuple[FitTokens, FitData, NDArray[np.float32]]]:
    """Tokens of all trials, and the normalised responses of the part's neurons and their scale."""
    task, neurons = part.task, slice(part.first, part.last)
    recording, trials = task.recording, trials_of(task)
    responses = recording.responses[:, neurons]
    with fit_tokens(task, trials) as tokens:
        data, scale = fit_data(
            tokens.training,
            responses[trials.training],
            tokens.validation,
            responses[trials.validation],
            seed=task.condition.seed,
            neurons=recording.neurons[neurons],
            memory_limit=task.memory_limit,
            overwrite=True,  # they are copies
        )
        yield tokens, data, scale


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
    torch.save(values, temporary)
    temporary.replace(path)
    return path


def _load(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path, weights_only=True)
    return loaded
