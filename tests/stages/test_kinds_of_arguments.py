"""Every public function on every kind of argument: the number of plain arrays, or a refusal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import xarray
from support.kinds import REFUSED, SAME, SAME_FLOATS

from cache import UserError
from stages.feve import fev_and_feve, feve_standard_error
from stages.readouts import AdamWSettings, ALSSettings, Readouts, fit_readouts
from stages.recordings import (
    Recording,
    SyntheticSettings,
    check_recording,
    normalise,
    synthetic_recording,
)
from stages.scores import correlation, mean_score, score, variance_explained

_DRAW = np.random.default_rng(0)
X = _DRAW.integers(-8, 8, (24, 2, 3, 4)).astype(np.float32) / 4
R = _DRAW.integers(1, 16, (24, 5)).astype(np.float32) / 4
P = _DRAW.integers(1, 16, (24, 5)).astype(np.float32) / 4
REPEATS = _DRAW.integers(1, 16, (24, 3, 5)).astype(np.float32) / 4
IDS = np.arange(24)
ALS = ALSSettings(max_rounds=3)
ADAMW = AdamWSettings(max_epochs=2)
READOUTS = Readouts(
    row_weights=np.ones((5, 2), np.float32),
    column_weights=np.ones((5, 3), np.float32),
    channel_weights=_DRAW.standard_normal((5, 4)).astype(np.float32),
    bias=np.ones(5, np.float32),
    scale=np.ones(5, np.float32),
)
PLANTED = SyntheticSettings(
    n_training=10, n_validation=7, n_test=7, n_repeats=2, n_neurons=2, n_components=2
)


def recording(**changes: Any) -> Recording:
    made = Recording(
        name="m",
        neurons=np.arange(5),
        image_ids=IDS,
        responses=R,
        validation=np.arange(24) % 4 == 0,
        test_image_ids=IDS + 100,
        test_responses=REPEATS,
    )
    return replace(made, **changes)


def fitted(solver: str, *, overwrite: bool = False, **given: Any) -> Any:
    arguments = {"x_train": X, "r_train": R, "x_val": X[:9], "r_val": R[:9], **given}
    settings = ALS if solver == "als" else ADAMW
    fit = fit_readouts(**arguments, solver=solver, settings=settings, overwrite=overwrite)
    return fit.channel_weights, fit.scale, fit.predict(X)


def checked(**changes: Any) -> Any:
    done = check_recording(recording(**changes))
    return [getattr(done, name) for name in ("image_ids", "responses", "test_responses", "x")]


#: Functions of one argument, and the plain array that it takes.
FUNCTIONS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "als, x_train": (lambda x: fitted("als", x_train=x), X),
    "als, x_val": (lambda x: fitted("als", x_val=x), X[:9]),
    "als, r_train": (lambda r: fitted("als", r_train=r), R),
    "als, r_val": (lambda r: fitted("als", r_val=r), R[:9]),
    "als, overwritten": (
        lambda r: fitted("als", r_train=r, r_val=R[:9].copy(), overwrite=True),
        R,
    ),
    "adamw, x_train": (lambda x: fitted("adamw", x_train=x), X),
    "adamw, r_train": (lambda r: fitted("adamw", r_train=r), R),
    "Readouts.predict": (READOUTS.predict, X),
    "fev_and_feve, responses": (lambda r: fev_and_feve(r, P), REPEATS),
    "fev_and_feve, predictions": (lambda p: fev_and_feve(REPEATS, p), P),
    "feve_standard_error": (lambda p: feve_standard_error(REPEATS, p, resamples=3), P),
    "variance_explained, responses": (lambda r: variance_explained(r, P), R),
    "variance_explained, predictions": (lambda p: variance_explained(R, p), P),
    "mean_score": (lambda p: mean_score(R, p), P),
    "correlation, responses": (lambda r: correlation(r, P), R),
    "correlation, predictions": (lambda p: correlation(R, p), P),
    "score": (lambda p: list(score(recording(), p, explained=P[0]).values()), P),
    "check_recording, responses": (lambda r: checked(responses=r), R),
    "check_recording, test_responses": (lambda r: checked(test_responses=r), REPEATS),
    "check_recording, x": (lambda x: checked(x=x), P[:5, 0].copy()),
    "normalise": (lambda s: normalise(recording(), s).responses, P[0] + 1),
    "synthetic_recording": (
        lambda x: synthetic_recording(PLANTED, x, name="s")[0].responses,
        X,
    ),
}

#: Likewise, of ids.
OF_IDS: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "neurons": (lambda n: fitted("adamw", neurons=n), np.arange(3, 8)),
    "image_ids": (lambda ids: checked(image_ids=ids), IDS),
    "test_image_ids": (lambda ids: checked(test_image_ids=ids), IDS + 100),
    "unit_ids": (lambda ids: check_recording(recording(unit_ids=ids)).unit_ids, IDS[:5]),
}

#: Functions that take NaN, and masked values, for missing ones.
MAY_BE_MISSING = {"fev_and_feve, responses", "variance_explained, responses"}
MAY_BE_MISSING |= {"correlation, responses", "als, overwritten"}
MAY_BE_MISSING |= {
    f"{solver}, {kind}" for solver in ("als", "adamw") for kind in ("r_train", "r_val")
}
MAY_BE_MISSING |= {"check_recording, responses", "check_recording, test_responses"}


def same(found: Any, expected: Any) -> None:
    assert type(found) is type(expected)
    if isinstance(expected, list | tuple):
        for one, other in zip(found, expected, strict=True):
            same(one, other)
    elif expected is not None:
        np.testing.assert_array_equal(found, expected)
        assert getattr(found, "dtype", None) == getattr(expected, "dtype", None)


@pytest.mark.parametrize("kind", [*SAME, *SAME_FLOATS])
@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_same_numbers_give_the_same_result(function: str, kind: str) -> None:
    call, plain = FUNCTIONS[function]
    same(call((SAME | SAME_FLOATS)[kind](plain.copy())), call(plain.copy()))


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("function", FUNCTIONS)
def test_what_is_no_array_of_numbers_is_refused(function: str, kind: str) -> None:
    call, plain = FUNCTIONS[function]
    if kind == "none" and function == "check_recording, x":
        return
    if "masked" in kind and function in MAY_BE_MISSING:
        missing = plain.copy()
        missing.flat[0] = np.nan
        same(call(REFUSED[kind](plain)), call(missing))
        return
    with pytest.raises(UserError):
        call(REFUSED[kind](plain))


@pytest.mark.parametrize("function", OF_IDS)
def test_ids(function: str) -> None:
    call, plain = OF_IDS[function]
    for kind in SAME.values():
        same(call(kind(plain)), call(plain))
    optional = ["none"] * (function in ("neurons", "unit_ids"))
    refused = [kind for name, kind in REFUSED.items() if name not in optional]
    for kind in [*refused, lambda ids: ids + 0.5, lambda ids: ids.astype(float)]:
        with pytest.raises(UserError):
            call(kind(plain))


@pytest.mark.parametrize(
    "given",
    [IDS % 2, np.ones(24), None, ["yes"] * 24, np.ma.masked_all(24, bool)],
)
def test_validation_is_true_or_false(given: Any) -> None:
    with pytest.raises(UserError, match="validation"):
        checked(validation=given)


# numbers in other dtypes


@pytest.mark.parametrize("dtype", ["f2", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
@pytest.mark.parametrize("solver", ["als", "adamw"])
def test_numbers_of_any_dtype(solver: str, dtype: str) -> None:
    x, r = abs(4 * X), 4 * R
    expected = fitted(solver, x_train=x, x_val=x[:9], r_train=r, r_val=r[:9])
    x, r = x.astype(dtype), r.astype(dtype)
    found = fitted(solver, x_train=x, x_val=x[:9], r_train=r, r_val=r[:9])
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_axes_with_names_are_put_in_order() -> None:
    turned = xarray.DataArray(R.T, dims=("neuron", "image"))
    x = xarray.DataArray(X.transpose(3, 0, 1, 2), dims=("channel", "image", "row", "column"))
    same(fitted("als", r_train=turned, x_train=x), fitted("als"))


# torch around a call


@contextmanager
def _default_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


AROUND: dict[str, Callable[[], Any]] = {
    "float64 by default": _default_float64,
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "another device": lambda: torch.device("meta"),
    "nothing": nullcontext,
}


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("solver", ["als", "adamw"])
def test_settings_of_torch_around_a_fit_change_nothing(solver: str, around: str) -> None:
    expected = fitted(solver)
    with AROUND[around]():
        found = fitted(solver)
    same(found, expected)


# none, and none left


@pytest.mark.parametrize(
    "given",
    [
        {"r_train": R[:, :0], "r_val": R[:9, :0]},
        {"x_train": X[:0], "r_train": R[:0]},
        {"x_val": X[:0], "r_val": R[:0]},
        {"x_train": X[..., :0], "x_val": X[:9, ..., :0]},
        {"x_train": X[:, :0], "x_val": X[:9, :0]},
        {"neurons": [-1, 0, 1, 2, 3]},
        {"seed": True},
        {"seed": 1.0},
        {"seed": -1},
    ],
)
def test_nothing_to_fit_is_refused(given: Any) -> None:
    for solver in ("als", "adamw"):
        with pytest.raises(UserError):
            fitted(solver, **given)


def test_no_neurons_and_no_images() -> None:
    none = READOUTS.of(slice(0, 0))
    assert none.predict(X).shape == (24, 0) and READOUTS.predict(X[:0]).shape == (0, 5)
    fev, feve = fev_and_feve(REPEATS[..., :0], P[:, :0])
    assert fev.shape == feve.shape == (0,)
    assert np.isnan(fev_and_feve(REPEATS[:0], P[:0])).all()
    for measure in (variance_explained, correlation):
        assert measure(R[:, :0], P[:, :0]).shape == (0,)
        assert np.isnan(measure(R[:0], P[:0])).all()


def test_shapes_are_not_stretched() -> None:
    for wrong in (P[:1], P[:, :1]):
        for measure in (variance_explained, correlation, mean_score):
            with pytest.raises(UserError, match="predictions"):
                measure(R, wrong)
    with pytest.raises(UserError, match="scale has shape"):
        normalise(recording(), P[0, :1])


def test_an_infinite_response_is_not_a_missing_one() -> None:
    wild = REPEATS.copy()
    wild[0, 0, 0] = np.inf
    with pytest.raises(UserError, match="infinite"):
        fev_and_feve(wild, P)


@pytest.mark.parametrize("value", [True, 1.5, "2", None])
def test_a_choice_of_neurons_is_of_whole_numbers(value: Any) -> None:
    with pytest.raises(UserError, match="whole number"):
        recording().select_neurons(0, value)
