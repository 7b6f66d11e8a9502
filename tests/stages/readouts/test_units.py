"""Units: readouts of responses, or tokens, in another unit have the same FEVE."""

import numpy as np
import pytest
from support.planted import plant

from stages.feve import fev_and_feve
from stages.readouts.settings import AdamWSettings, ALSSettings
from stages.readouts.solvers import SOLVERS, fit_readouts
from stages.spread import PUBLISHED_FLOOR

SETTINGS = {
    "als": ALSSettings(),
    "adamw": AdamWSettings(learning_rate=0.02, max_epochs=12, penalty=0.001, clip_norm=None),
}
FACTORS = [1e-6, 1e-3, 0.3, 1e3, 1e6]
POWERS = [-20, -10, 20]

#: Neurons of `problem` that always respond alike and never.
ALIKE, SILENT = 9, 10


def problem():
    """Training and validation, and repeats of the validation images."""
    x_train, r_train, x_val, r_val = plant(n_trials=600, noise=0.4, link="elu").split(100)
    r_train, r_val = (
        np.hstack([r, np.full((len(r), 1), 0.7), np.zeros((len(r), 1))]).astype(np.float32)
        for r in (r_train, r_val)
    )
    noise = np.random.default_rng(7).standard_normal((100, 6, 11))
    repeats = np.maximum(r_val[:, None] + 0.15 * noise, 0).astype(np.float32)
    return x_train, r_train, x_val, r_val, repeats


def fitted(solver, *, responses=1.0, tokens=1.0):
    """The fit, and FEVE of the repeats, with responses and tokens times a factor each."""
    c, t = np.float32(responses), np.float32(tokens)
    x_train, r_train, x_val, r_val, repeats = problem()
    fit = fit_readouts(
        x_train * t, r_train * c, x_val * t, r_val * c, solver=solver, settings=SETTINGS[solver]
    )
    _, feve = fev_and_feve(repeats * c, fit.predict(x_val * t))
    return fit, feve


@pytest.fixture(scope="module", params=sorted(SOLVERS))
def usual(request):
    return request.param, *fitted(request.param)


pytestmark = pytest.mark.filterwarnings("ignore:fit_readouts")


def test_every_solver_is_tested():
    assert set(SOLVERS) == set(SETTINGS)


@pytest.mark.parametrize("power", POWERS)
def test_a_unit_that_is_a_power_of_two_changes_no_bit(usual, power):
    solver, fit, _ = usual
    other, _ = fitted(solver, responses=2.0**power)
    # The published floor is for neurons that hardly respond, in its own units.
    kept = slice(None, None if SOLVERS[solver].floor is None else ALIKE)
    for name in ("row_weights", "column_weights", "channel_weights", "bias"):
        np.testing.assert_array_equal(getattr(other, name)[kept], getattr(fit, name)[kept])
    np.testing.assert_array_equal(other.scale[kept], fit.scale[kept] * np.float32(2.0**power))


@pytest.mark.parametrize("factor", FACTORS)
def test_responses_in_any_unit_have_the_same_feve(usual, factor):
    solver, _, feve = usual
    np.testing.assert_allclose(fitted(solver, responses=factor)[1][:9], feve[:9], atol=1e-4)


@pytest.mark.parametrize("factor", [*FACTORS, 1e-12, 1e12])
def test_tokens_in_any_unit_have_the_same_feve_by_als(factor):
    """`adamw` is published with decay, clip and first weights in the unit of a ViT's tokens."""
    np.testing.assert_allclose(fitted("als", tokens=factor)[1], fitted("als")[1], atol=1e-4)


def test_a_silent_neuron_is_predicted_in_the_unit_of_the_others():
    x_val = problem()[2]
    rates = fitted("als")[0].predict(x_val)
    small = fitted("als", responses=2.0**-20)[0].predict(x_val)
    np.testing.assert_array_equal(small * np.float32(2.0**20), rates)
    assert rates[:, SILENT].max() < 0.01 * rates[:, :9].mean()


def test_a_neuron_that_varies_by_rounding_chooses_no_other_s_penalty():
    x_train, r_train, x_val, r_val, _ = problem()
    without = fit_readouts(x_train, r_train[:, :9], x_val, r_val[:, :9])
    rounding = np.random.default_rng(0)
    for r in (r_train, r_val):
        r[:, ALIKE] *= 1 + 1e-7 * rounding.standard_normal(len(r))
    beside = fit_readouts(x_train, r_train, x_val, r_val)
    np.testing.assert_allclose(beside.penalty[:9], without.penalty, rtol=1e-3)


def test_neurons_that_do_not_vary_are_warned_of():
    with pytest.warns(UserWarning, match=r"2 of 11 neurons .*\(9, 10\)"):
        fitted("als")


def test_the_published_protocol_keeps_its_floor_in_its_units(usual):
    solver, fit, _ = usual
    published = SOLVERS[solver].floor == PUBLISHED_FLOOR
    assert published == (solver == "adamw")
    assert (fit.scale[[ALIKE, SILENT]] == np.float32(0.01)).all() == published
