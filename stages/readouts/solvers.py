"""Fitting readouts, and loading saved ones: the functions that people call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from cache import UserError
from stages.readouts.adamw import fit_adamw
from stages.readouts.als.solver import fit_als
from stages.readouts.data import FitData
from stages.readouts.readout import Epoch, Readouts, as_grid
from stages.readouts.saved import load_readouts
from stages.readouts.settings import AdamWSettings, ALSSettings
from stages.recordings.recording import MINIMUM_STD
from stages.tokens.tokens import ArrayTokens, Tokens, all_finite

__all__ = ["SOLVERS", "Readouts", "fit_readouts", "load_readouts"]

AnyTokens = NDArray[np.generic] | torch.Tensor | Tokens
Solver = Callable[..., Readouts]

#: Solver functions and their settings, by the name that experiments use.
SOLVERS: Mapping[str, tuple[Solver, type]] = {
    "als": (fit_als, ALSSettings),
    "adamw": (fit_adamw, AdamWSettings),
}


def fit_readouts(
    x_train: AnyTokens,
    r_train: NDArray[np.floating],
    x_val: AnyTokens,
    r_val: NDArray[np.floating],
    *,
    solver: str = "als",
    seed: int = 0,
    neurons: NDArray[np.int64] | None = None,
    settings: object | None = None,
    device: torch.device | str = "cpu",
    memory_limit: int | None = None,
    overwrite: bool = False,
    progress: Callable[[Epoch], None] | None = None,
) -> Readouts:
    """Fit one readout per neuron on tokens, wherever the tokens come from.

    Parameters
    ----------
    x_train, x_val : array of shape (n_images, n_rows, n_columns, n_channels)
        Tokens of the training and validation trials; CLS tokens may be (n_images, n_channels).
        Or objects that read them part by part, see `stages.tokens.tokens.Tokens`.
    r_train, r_val : array of shape (n_images, n_neurons)
        Responses >= 0, in any unit; each neuron is divided by its standard deviation over training.
    solver : str
        "als" or "adamw".
    seed : int
        Decides initial weights and the order of images, where a solver draws any.
    neurons : array of shape (n_neurons,), optional
        Identity of each neuron, its position in the recording by default 0, 1, ...; with the seed
        it decides a neuron's initial weights, whichever others are fitted beside it.
    settings : solver's settings, optional
        Such as `stages.settings.ALSSettings`.
    memory_limit : int, optional
        Bytes that the process may use; results do not depend on it. "adamw" holds what it is given.
    overwrite : bool
        Whether r_train and r_val may be normalised in place, which saves a copy of each.
    progress : callable, optional
        Called after every epoch or step of polishing.

    Returns
    -------
    Readouts
        `.predict(x)` gives rates in units of r.

    Raises
    ------
    UserError
        Shapes that disagree, responses that are NaN or negative, tokens that are not finite, an
        unknown solver, a memory limit that cannot be kept.
    """
    if solver not in SOLVERS:
        raise UserError(
            f'readout.solver = "{solver}" is unknown: choose one of {", ".join(SOLVERS)}'
        )
    function, settings_type = SOLVERS[solver]
    data, scale = fit_data(
        x_train,
        r_train,
        x_val,
        r_val,
        seed=seed,
        neurons=neurons,
        device=device,
        memory_limit=memory_limit,
        overwrite=overwrite,
    )
    fitted = function(data, settings_type() if settings is None else settings, progress=progress)
    return replace(fitted, scale=scale)


def fit_data(
    x_train: AnyTokens,
    r_train: NDArray[np.floating],
    x_val: AnyTokens,
    r_val: NDArray[np.floating],
    *,
    seed: int = 0,
    neurons: NDArray[np.int64] | None = None,
    device: torch.device | str = "cpu",
    memory_limit: int | None = None,
    overwrite: bool = False,
) -> tuple[FitData, NDArray[np.float32]]:
    """What a solver is given, checked and normalised, and what responses were divided by.

    Parameters are those of `fit_readouts`.

    Raises
    ------
    UserError
        As `fit_readouts`.
    """
    xs = [_tokens(x_train), _tokens(x_val)]
    rs = [np.asarray(r_train, dtype=np.float32), np.asarray(r_val, dtype=np.float32)]
    for kind, x, r in zip(("training", "validation"), xs, rs, strict=True):
        _check(kind, x, r)
    if xs[0].shape[1:] != xs[1].shape[1:] or rs[0].shape[1] != rs[1].shape[1]:
        raise UserError(
            f"training and validation differ in tokens ({xs[0].shape[1:]}, {xs[1].shape[1:]}) "
            f"or neurons ({rs[0].shape[1]}, {rs[1].shape[1]})"
        )
    n_neurons = rs[0].shape[1]
    who = np.arange(n_neurons) if neurons is None else np.asarray(neurons)
    if who.shape != (n_neurons,):
        raise UserError(f"neurons has shape {who.shape}, but there are {n_neurons} neurons")
    scale = np.maximum(rs[0].std(axis=0, dtype=np.float64), MINIMUM_STD).astype(np.float32)
    normalised = [torch.from_numpy(np.divide(r, scale, out=r if overwrite else None)) for r in rs]
    data = FitData(
        x_train=xs[0],
        r_train=normalised[0],
        x_validation=xs[1],
        r_validation=normalised[1],
        neurons=who.astype(np.int64),
        seed=seed,
        device=torch.device(device),
        memory_limit=memory_limit,
    )
    return data, scale


def _tokens(x: AnyTokens) -> Tokens:
    return ArrayTokens(as_grid(x)) if isinstance(x, np.ndarray | torch.Tensor) else x


def _check(kind: str, x: Tokens, r: NDArray[np.float32]) -> None:
    if r.ndim != 2 or len(r) != x.shape[0] or not len(r):
        raise UserError(
            f"{kind} responses have shape {r.shape}, but there are tokens of {x.shape[0]} images: "
            "expected one row of responses per image and one column per neuron"
        )
    bad = ~(np.isfinite(r) & (r >= 0)).all(axis=0)
    if bad.any():
        raise UserError(
            f"{int(bad.sum())} of {r.shape[1]} neurons have NaN or negative {kind} responses, the "
            f"first is neuron {int(np.flatnonzero(bad)[0])}: the Poisson loss needs rates >= 0"
        )
    if isinstance(x, ArrayTokens) and not all_finite(x.tensor):
        raise UserError(f"the {kind} tokens are not all finite: extract them again in float32")
