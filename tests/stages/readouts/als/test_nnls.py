"""Non-negative least squares for many small problems at once, against one at a time."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from stages.readouts.als.nnls import nonnegative_least_squares


def problems(seed, n, n_problems=20, excess=3, offset=0.0):
    draw = np.random.default_rng(seed)
    a = draw.standard_normal((n_problems, n + excess, n)) + offset
    b = draw.standard_normal((n_problems, n + excess))
    return a, b


def solve(a, b, **options):
    gram = torch.from_numpy(np.einsum("pij,pik->pjk", a, a))
    target = torch.from_numpy(np.einsum("pij,pi->pj", a, b))
    return nonnegative_least_squares(gram, target, **options).numpy()


@given(st.integers(0, 2**32), st.integers(1, 12), st.sampled_from([0.0, 2.0]))
def test_equals_scipy(seed, n, offset):
    a, b = problems(seed, n, offset=offset)
    expected = np.array([nnls(*problem)[0] for problem in zip(a, b, strict=True)])
    np.testing.assert_allclose(solve(a, b), expected, atol=1e-8)


@pytest.mark.parametrize("guess", ["none free", "all free", "random"])
def test_the_guess_changes_nothing(guess):
    a, b = problems(1, 8)
    free = {
        "none free": np.zeros((*b.shape[:1], 8)),
        "all free": np.ones((*b.shape[:1], 8)),
        "random": np.random.default_rng(0).integers(0, 2, (*b.shape[:1], 8)).astype(float),
    }[guess]
    found = solve(a, b, start=torch.from_numpy(free))
    np.testing.assert_allclose(found, solve(a, b), atol=1e-10)


def test_nothing_positive_helps():
    gram = torch.eye(4, dtype=torch.float64).expand(2, 4, 4)
    target = -torch.ones(2, 4, dtype=torch.float64)
    assert (nonnegative_least_squares(gram, target) == 0).all()


def test_single_exchanges_end_where_block_exchanges_would(monkeypatch):
    monkeypatch.setattr("stages.readouts.als.nnls.FULL_EXCHANGES", 0)
    a, b = problems(2, 10, n_problems=50)
    expected = np.array([nnls(*problem)[0] for problem in zip(a, b, strict=True)])
    np.testing.assert_allclose(solve(a, b), expected, atol=1e-8)
