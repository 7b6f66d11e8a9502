"""Choice of penalties: the population's, corrected as far as a neuron's trials support it."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.readouts.als.penalties import HeldOutErrors, choose, concatenate

N_TRIALS, N_CHOICES = 60, 5


def errors_of(expected, noise, *, seed, n_trials=N_TRIALS):
    """Squared errors, (trial, neuron, choice), scattered around what is expected of each."""
    draw = torch.Generator().manual_seed(seed)
    scatter = torch.randn(n_trials, *expected.shape, generator=draw, dtype=torch.float64)
    return expected + noise * scatter


def held_out(errors, neurons=slice(None), variances=None):
    variances = torch.ones(errors.shape[1]) if variances is None else variances
    sums = HeldOutErrors(variances[neurons], errors.shape[2])
    sums.add(slice(None), errors[:, neurons], 0)
    return sums


def population(n_neurons, spread, *, seed):
    """Expected errors that are least near one choice, for each neuron at its own place."""
    draw = torch.Generator().manual_seed(seed)
    best = 2 + spread * torch.randn(n_neurons, 1, generator=draw, dtype=torch.float64)
    return 0.8 + 0.02 * (torch.arange(N_CHOICES) - best).square()


def test_without_noise_each_neuron_gets_its_best():
    expected = population(200, 1.0, seed=0)
    chosen = choose(held_out(errors_of(expected, 0.0, seed=0)))
    assert torch.equal(chosen, expected.argmin(dim=1))
    assert len(chosen.unique()) > 2


def test_where_all_are_alike_noise_changes_no_choice():
    expected = population(200, 0.0, seed=0)
    sums = held_out(errors_of(expected, 1.0, seed=0))
    chosen, own = (choose(sums, how=how) for how in ("shrunk", "own"))
    assert (chosen == 2).double().mean() > 0.95
    assert (own == 2).double().mean() < 0.5


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.5])
@pytest.mark.parametrize("noise", [0.1, 0.5, 1.5])
def test_shrinkage_serves_at_least_as_well_as_one_choice_for_all(spread, noise, seed):
    """Measured by what the choices are expected to cost, which no choice has seen."""
    expected = population(500, spread, seed=seed)
    sums = held_out(errors_of(expected, noise, seed=seed + 100))
    cost = {
        how: expected.gather(1, choose(sums, how=how)[:, None]).mean()
        for how in ("shrunk", "shared", "own")
    }
    worth = expected[:, 2].mean() - expected.min(dim=1).values.mean()
    assert cost["shrunk"] <= cost["shared"] + 0.01 * worth + 1e-4
    if spread == 0 and noise >= 0.5:
        assert cost["shrunk"] < cost["own"]


@given(st.integers(1, 30), st.integers(0, 1000))
def test_parts_of_trials_and_groups_of_neurons_give_the_same(cut, seed):
    expected = population(12, 1.0, seed=seed)
    errors = errors_of(expected, 0.3, seed=seed)
    whole = held_out(errors)
    groups = concatenate([held_out(errors, slice(0, 5)), held_out(errors, slice(5, None))])
    parts = HeldOutErrors(torch.ones(12), N_CHOICES)
    for some in torch.arange(N_TRIALS).split(cut):
        parts.add(slice(None), errors[some], int(some[0]))
    for other in (groups, parts):
        torch.testing.assert_close(other.total, whole.total)
        assert torch.equal(other.count, whole.count)
        assert torch.equal(choose(other), choose(whole))


def test_neurons_that_do_not_vary_follow_the_others():
    expected = population(50, 1.0, seed=0)
    expected[7] = torch.tensor([0.0, 9, 9, 9, 9])
    variances = torch.ones(50)
    variances[7] = 0
    errors = errors_of(expected, 0.0, seed=0)
    sums, none = (held_out(errors, variances=each) for each in (variances, torch.zeros(50)))
    assert choose(sums)[7] == choose(sums, how="shared")[0] == 2
    assert (choose(none) == choose(none)[0]).all()


def test_one_held_out_trial_is_enough_to_choose_by():
    errors = errors_of(population(20, 1.0, seed=0), 0.1, seed=0, n_trials=1)
    chosen = choose(held_out(errors))
    assert chosen.shape == (20,)
