"""The trials that a solver is given: checked, and their responses normalised."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from cache import UserError, as_array, whole_number, whole_numbers
from stages.readouts.sizes import FitSize
from stages.spread import (
    extremes,
    require_rates,
    response_scale,
    spread_of,
    warn_of_scale,
    without_rounding,
)
from stages.tokens.given import as_grid
from stages.tokens.tokens import ArrayTokens, Tokens, all_finite

AnyTokens = ArrayLike | torch.Tensor | Tokens


@dataclass(frozen=True, kw_only=True)
class FitData:
    """Tokens and normalised responses of the training and the validation trials.

    Parameters
    ----------
    x_train, x_validation : Tokens
        Of shape (n_trials, n_rows, n_columns, n_channels); solvers convert part by part.
    r_train, r_validation : tensor of shape (n_trials, n_neurons)
        float32, divided by each neuron's `stages.spread.response_scale`; NaN where missing. A
        neuron without any training response is silent.
    neurons : array of shape (n_neurons,)
        Who each neuron is: what a solver draws for it depends on this and the seed alone.
    seed : int
        For initial weights and the order of images.
    device : torch device
        Where to compute.
    memory_limit : int, optional
        Bytes that the process may use; no limit where absent.
    incomplete : bool
        Whether responses are missing, of these neurons or of others that are fitted with them.
    signed : bool
        Likewise, whether responses are negative.
    sources : tuple of int
        Channels of each source, where tokens are of several that are to count alike.
    """

    x_train: Tokens
    r_train: torch.Tensor
    x_validation: Tokens
    r_validation: torch.Tensor
    neurons: NDArray[np.int64]
    seed: int
    device: torch.device
    memory_limit: int | None = None
    incomplete: bool = False
    signed: bool = False
    sources: tuple[int, ...] = ()

    @property
    def size(self) -> FitSize:
        """Sizes of the fit."""
        n_trials, rows, columns, channels = self.x_train.shape
        return FitSize(
            n_trials=n_trials + self.x_validation.shape[0],
            n_rows=rows,
            n_columns=columns,
            n_channels=channels,
            n_neurons=len(self.neurons),
            incomplete=self.incomplete,
        )

    def of(self, neurons: slice) -> FitData:
        """The same of some neurons."""
        return replace(
            self,
            r_train=self.r_train[:, neurons],
            r_validation=self.r_validation[:, neurons],
            neurons=self.neurons[neurons],
        )


def fit_data(
    x_train: AnyTokens,
    r_train: ArrayLike,
    x_val: AnyTokens,
    r_val: ArrayLike,
    *,
    seed: int = 0,
    neurons: ArrayLike | None = None,
    device: torch.device | str = "cpu",
    memory_limit: int | None = None,
    overwrite: bool = False,
    scale: NDArray[np.float32] | None = None,
    floor: float | None = None,
    rates: bool = True,
    incomplete: bool | None = None,
    sources: tuple[int, ...] = (),
) -> tuple[FitData, NDArray[np.float32]]:
    """What a solver is given, and what responses were divided by.

    Most parameters are those of `stages.readouts.solvers.fit_readouts`.

    Parameters
    ----------
    scale : array of shape (n_neurons,), optional
        What responses are divided by; `response_scale` of the training trials by default, which
        warns of neurons that hardly vary.
    floor : float, optional
        The solver's, see `response_scale`.
    rates : bool
        Whether rates are fitted, so that no response may be negative.
    sources : tuple of int
        As `FitData` has them.
    incomplete : bool, optional
        As `FitData` has it; where absent, no other neurons are fitted with these.

    Raises
    ------
    UserError
        As `fit_readouts`.
    """
    kinds = ("training", "validation")
    xs = [_tokens(x, f"{kind} tokens") for kind, x in zip(kinds, (x_train, x_val), strict=True)]
    rs = [_responses(r, kind) for kind, r in zip(kinds, (r_train, r_val), strict=True)]
    for kind, x, r in zip(kinds, xs, rs, strict=True):
        _check(kind, x, r)
    if xs[0].shape[1:] != xs[1].shape[1:] or rs[0].shape[1] != rs[1].shape[1]:
        raise UserError(
            f"training and validation differ in tokens ({xs[0].shape[1:]}, {xs[1].shape[1:]}) "
            f"or neurons ({rs[0].shape[1]}, {rs[1].shape[1]})"
        )
    n_neurons = rs[0].shape[1]
    who = np.arange(n_neurons) if neurons is None else whole_numbers(neurons, "neurons")
    if who.shape != (n_neurons,) or who.min() < 0:
        raise UserError(
            f"neurons has shape {who.shape}, but there are {n_neurons} neurons: name each by a "
            "whole number from 0 on"
        )
    ends = extremes(*rs)
    rs = [without_rounding(r, *ends) for r in rs]
    negative = who[extremes(*rs)[0] < 0]
    if rates:
        require_rates("the responses", negative, n_neurons)
    if scale is None:
        spread = spread_of(rs[0])
        scale = response_scale(spread, floor=floor)
        warn_of_scale(spread, floor=floor, name="fit_readouts", neurons=who)
    places = [r if overwrite and r.flags.writeable else None for r in rs]
    divided = (np.divide(r, scale, out=place) for r, place in zip(rs, places, strict=True))
    normalised = [torch.from_numpy(r) for r in divided]
    absent = torch.from_numpy(~np.isfinite(extremes(rs[0])[0]))
    if absent.any():
        # Who has no trial to be fitted to is taken for silent, and costs the others nothing.
        normalised = [torch.where(absent, 0, r) for r in normalised]
    if incomplete is None:
        incomplete = any(bool(r.isnan().any()) for r in normalised)
    data = FitData(
        x_train=xs[0],
        r_train=normalised[0],
        x_validation=xs[1],
        r_validation=normalised[1],
        neurons=who.astype(np.int64),
        seed=whole_number(seed, "seed", least=0),
        device=torch.device(device),
        memory_limit=memory_limit,
        incomplete=incomplete,
        signed=len(negative) > 0,
        sources=sources,
    )
    return data, scale


def _tokens(given: Any, what: str) -> Tokens:
    # A column or coordinate of that name makes no reader.
    reads = callable(getattr(type(given), "read", None))
    return given if reads else ArrayTokens(as_grid(given, what))


def _responses(given: Any, kind: str) -> NDArray[np.float32]:
    r = as_array(given, f"{kind} responses", ("image", "neuron"), missing=True)
    return r.astype(np.float32, "C", copy=False)


def _check(kind: str, x: Tokens, r: NDArray[np.float32]) -> None:
    if len(r) != x.shape[0] or not r.size or not all(x.shape):
        raise UserError(
            f"{kind} responses have shape {r.shape}, but there are tokens of {x.shape[0]} images: "
            "expected one row of responses per image and one column per neuron"
        )
    infinite = np.isinf(extremes(r)).any(axis=0)
    if infinite.any():
        raise UserError(
            f"{infinite.sum()} of {r.shape[1]} neurons have infinite {kind} responses, the first "
            f"is neuron {np.flatnonzero(infinite)[0]}: correct them; a missing response is NaN"
        )
    if np.isnan(r).all():
        raise UserError(f"all {kind} responses are missing")
    if isinstance(x, ArrayTokens) and not all_finite(x.tensor):
        raise UserError(f"the {kind} tokens are not all finite: extract them again in float32")
