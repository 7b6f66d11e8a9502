"""The one readout: its formula, its loss for extreme predictors, and its predictions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import xlogy

from cache import UserError
from stages.readouts.readout import Readout, Readouts, log_rate, poisson_loss, rate
from stages.tokens.given import as_grid


def random_readouts(*, n_neurons=5, grid=(3, 4, 6), seed=0):
    rng = np.random.default_rng(seed)
    rows, columns, channels = grid
    return Readouts(
        row_weights=rng.random((n_neurons, rows), dtype=np.float32),
        column_weights=rng.random((n_neurons, columns), dtype=np.float32),
        channel_weights=rng.standard_normal((n_neurons, channels), dtype=np.float32),
        bias=rng.standard_normal(n_neurons, dtype=np.float32),
        scale=rng.random(n_neurons, dtype=np.float32) + 0.5,
    )


def test_prediction_is_the_written_formula():
    readouts = random_readouts()
    x = np.random.default_rng(1).standard_normal((7, 3, 4, 6)).astype(np.float32)
    predicted = readouts.predict(x)
    for i in range(7):
        for n in range(5):
            z = readouts.bias[n] + sum(
                readouts.row_weights[n, y]
                * readouts.column_weights[n, c]
                * readouts.channel_weights[n]
                @ x[i, y, c]
                for y in range(3)
                for c in range(4)
            )
            mu = z + 1 if z > 0 else np.exp(z)
            assert predicted[i, n] == pytest.approx(mu * readouts.scale[n], rel=1e-4, abs=1e-5)


def test_prediction_in_float16_and_in_parts_is_the_same(monkeypatch):
    readouts = random_readouts()
    x = np.random.default_rng(1).standard_normal((50, 3, 4, 6)).astype(np.float16)
    whole = readouts.predict(x)
    monkeypatch.setattr("stages.readouts.readout.PREDICT_ELEMENTS", 3 * 12 * 5)
    np.testing.assert_allclose(readouts.predict(x), whole, rtol=1e-5)
    np.testing.assert_allclose(readouts.predict(x.astype(np.float32)), whole, rtol=1e-5)


def test_cls_tokens_are_a_one_by_one_grid():
    readouts = random_readouts(grid=(1, 1, 6))
    x = np.random.default_rng(1).standard_normal((4, 6)).astype(np.float32)
    np.testing.assert_array_equal(readouts.predict(x), readouts.predict(x[:, None, None, :]))


def test_tokens_of_another_grid_are_refused():
    with pytest.raises(UserError, match=r"read \(image, row, column, channel\) = \(n, 3, 4, 6\)"):
        random_readouts().predict(np.zeros((2, 3, 5, 6), np.float32))
    with pytest.raises(UserError, match="expected \\(image, row, column, channel\\)"):
        as_grid(np.zeros((2, 3, 4)))


@given(st.floats(-200, 200), st.floats(0, 1e4))
def test_loss_and_gradient_are_finite_in_float32(z, r):
    predictor = torch.tensor([z], dtype=torch.float32, requires_grad=True)
    loss = poisson_loss(predictor, torch.tensor([r]))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(predictor.grad).all()


@pytest.mark.parametrize("edge", [-200.0, -104.0, -88.0, -17.5, 0.0, 1e-8, 17.5, 200.0])
def test_loss_and_gradient_equal_those_in_double_precision(edge):
    z = torch.tensor([edge], requires_grad=True)
    poisson_loss(z, torch.tensor([2.0])).sum().backward()
    exact = torch.tensor([edge], dtype=torch.float64, requires_grad=True)
    mu = torch.nn.functional.elu(exact) + 1 if edge > -30 else torch.exp(exact)
    loss = mu - 2.0 * torch.log(mu)
    loss.sum().backward()
    np.testing.assert_allclose(z.grad, exact.grad, rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(
        poisson_loss(z, torch.tensor([2.0])).detach(), loss.detach(), rtol=1e-6
    )


@given(st.floats(-15, 50), st.floats(0, 100))
def test_loss_is_poisson_s(z, r):
    mu = z + 1 if z > 0 else np.exp(z)
    loss = poisson_loss(torch.tensor([z], dtype=torch.float64), torch.tensor([r]))
    assert loss.item() == pytest.approx(mu - xlogy(r, mu), rel=1e-6, abs=1e-6)


def test_rate_and_its_logarithm_agree():
    z = torch.linspace(-40, 40, 161, dtype=torch.float64)
    torch.testing.assert_close(rate(z).log(), log_rate(z))


def test_projection_keeps_space_non_negative_and_channels_signed():
    weights = torch.tensor([[-1.0, 2.0]])
    readout = Readout(
        row_weights=weights, column_weights=weights, channel_weights=weights, bias=torch.zeros(1)
    )
    readout.project()
    assert readout.row_weights.tolist() == [[0.0, 2.0]]
    assert readout.column_weights.tolist() == [[0.0, 2.0]]
    assert readout.channel_weights.tolist() == [[-1.0, 2.0]]
    assert readout.squared_norms().tolist() == [13.0]


def test_weights_of_which_nothing_is_left_end_at_zero():
    # A neuron whose spatial weights are zero shrinks without end, to numbers that take processors
    # a hundred times as long.
    weights = torch.tensor([[1e-39, -1e-31, 1e-20, -1e-20]])
    readout = Readout(
        row_weights=torch.ones(1, 2), column_weights=torch.ones(1, 2), channel_weights=weights,
        bias=torch.zeros(1),
    )  # fmt: skip
    readout.project()
    assert torch.equal(readout.channel_weights[0], weights[0] * torch.tensor([0, 0, 1, 1]))
