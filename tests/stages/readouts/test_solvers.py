"""`fit_readouts` with each solver: shapes, units, refusals; and a solver of the test's own."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from support.clusters import noise_task
from support.planted import plant

from cache import UserError
from pipeline.experiment import load_experiment
from stages.costs import Cost, Portion
from stages.fit.cost import fit_cost, needed_memory
from stages.fit.distributed import division
from stages.fit.inputs import TaskSource
from stages.fit.run import fit_condition
from stages.readouts import Readouts, Solver
from stages.readouts.settings import AdamWSettings, ALSSettings, ReadoutSettings
from stages.readouts.solvers import SOLVERS, fit_readouts
from stages.scores import variance_explained

QUICK = {
    "als": ALSSettings(),
    "adamw": AdamWSettings(learning_rate=0.02, max_epochs=15, penalty=0.001, clip_norm=None),
}


@pytest.fixture(scope="module")
def data():
    return plant(n_trials=500, noise=0.5, link="elu").split(100)


@pytest.fixture(scope="module", params=sorted(QUICK))
def fitted(request, data):
    return request.param, fit_readouts(*data, solver=request.param, settings=QUICK[request.param])


def test_every_solver_is_tested():
    assert set(SOLVERS) == set(QUICK)


def test_shapes_and_signs(fitted, data):
    _, fit = fitted
    assert fit.row_weights.shape == (9, 3) and fit.column_weights.shape == (9, 4)
    assert fit.channel_weights.shape == (9, 8) and fit.bias.shape == fit.scale.shape == (9,)
    assert (fit.row_weights >= 0).all() and (fit.column_weights >= 0).all()
    rates = fit.predict(data[2])
    assert rates.shape == data[3].shape and rates.dtype == np.float32 and (rates >= 0).all()
    assert fit.curve


def test_predictions_are_in_units_of_the_responses(fitted, data):
    solver, fit = fitted
    explained = variance_explained(data[3], fit.predict(data[2]))
    assert explained.mean() > 0.3
    x_train, r_train, x_val, r_val = data
    larger = fit_readouts(
        x_train, 8 * r_train, x_val, 8 * r_val, solver=solver, settings=QUICK[solver]
    )
    np.testing.assert_allclose(larger.predict(x_val), 8 * fit.predict(x_val), rtol=1e-3, atol=1e-3)


def test_progress_is_called_for_every_epoch(data):
    for solver, settings in QUICK.items():
        seen = []
        fit = fit_readouts(*data, solver=solver, settings=settings, progress=seen.append)
        assert [epoch.epoch for epoch in seen] == [epoch.epoch for epoch in fit.curve]


def test_the_default_is_als(data):
    default, named = fit_readouts(*data), fit_readouts(*data, solver="als", settings=ALSSettings())
    np.testing.assert_array_equal(default.channel_weights, named.channel_weights)


def test_float16_tensors_and_cls_tokens_are_taken(data):
    x_train, r_train, x_val, r_val = data
    cls = [torch.from_numpy(x[:, 1, 2]).half() for x in (x_train, x_val)]
    fit = fit_readouts(cls[0], r_train, cls[1], r_val)
    assert fit.grid == (1, 1, 8) and fit.predict(cls[1]).shape == r_val.shape


@pytest.mark.parametrize("solver", sorted(QUICK))
def test_bad_input_is_one_line(data, solver):
    x_train, r_train, x_val, r_val = data
    spoilt = x_train.copy()
    spoilt[3, 1, 1, 1] = np.nan
    cases = [
        ((x_train[:-1], r_train, x_val, r_val), "one row of responses per image"),
        ((x_train, r_train - 5, x_val, r_val), 'negative .*readout.als.output = "linear"'),
        ((x_train, r_train, x_val, np.full_like(r_val, np.inf)), "infinite validation"),
        ((x_train, r_train, x_val, np.full_like(r_val, np.nan)), "all validation .* missing"),
        ((x_train, r_train, x_val[..., :5], r_val), "differ in tokens"),
        ((x_train, r_train, x_val, r_val[:, :5]), "or neurons"),
        ((spoilt, r_train, x_val, r_val), "not all finite"),
        ((x_train[0], r_train, x_val, r_val), "expected"),
    ]
    for arguments, message in cases:
        with pytest.raises(UserError, match=message) as error:
            fit_readouts(*arguments, solver=solver)
        assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="neurons has shape"):
        fit_readouts(*data, solver=solver, neurons=np.arange(4))


def test_an_unknown_solver_names_the_known_ones(data):
    with pytest.raises(UserError, match="als, adamw"):
        fit_readouts(*data, solver="sgd")


def test_responses_are_overwritten_only_where_they_may_be(fitted, data):
    solver, fit = fitted
    x_train, r_train, x_val, r_val = data
    train, val = r_train.astype(np.float32), r_val.astype(np.float32)
    for overwrite in (False, True):
        np.testing.assert_array_equal(train, r_train.astype(np.float32))
        other = fit_readouts(
            x_train, train, x_val, val, solver=solver, settings=QUICK[solver], overwrite=overwrite
        )
        np.testing.assert_array_equal(other.channel_weights, fit.channel_weights)
    np.testing.assert_array_equal(train, r_train.astype(np.float32) / fit.scale)


@dataclass(frozen=True, kw_only=True)
class ConstantSettings:
    """Settings of `Constant`."""

    factor: float = 1.0


class Constant(Solver):
    """Every neuron's mean rate, times a factor, whatever the image."""

    settings = ConstantSettings

    def fit(self, data, settings, *, progress=None):
        _, rows, columns, channels = data.x_train.shape
        mean = settings.factor * data.r_train.mean(dim=0).numpy()

        def zeros(size):
            return np.zeros((len(mean), size), dtype=np.float32)

        return Readouts(
            row_weights=zeros(rows), column_weights=zeros(columns),
            channel_weights=zeros(channels), bias=np.where(mean > 1, mean - 1, np.log(mean)),
            scale=np.ones_like(mean),
        )  # fmt: skip

    def least_memory(self, size, settings, *, divided=False):
        return size.responses

    def cost(self, size, settings, *, divided=False, memory_limit=None):
        return Cost(phases=(Portion(1e-9 * size.responses),))


@pytest.fixture
def toy(monkeypatch):
    monkeypatch.setitem(SOLVERS, "constant", Constant())


def test_a_solver_from_outside_fits_by_its_name(toy, data):
    rates = fit_readouts(*data, solver="constant").predict(data[2])
    np.testing.assert_allclose(rates, np.tile(data[1].mean(axis=0), (100, 1)), rtol=1e-5)
    double = ConstantSettings(factor=2.0)
    twice = fit_readouts(*data, solver="constant", settings=double).predict(data[2])
    np.testing.assert_allclose(twice, 2 * rates, rtol=1e-5)


def test_a_solver_from_outside_serves_an_experiment(toy, tmp_path):
    """From the experiment file to a fitted condition, its key, its needs and its price."""
    path = tmp_path / "toy.toml"
    path.write_text('[readout]\nsolver = "constant"\n')
    (experiment,) = load_experiment(path).variants
    readout = experiment.readout
    assert readout.of_solver == ConstantSettings()
    default = noise_task(tmp_path, n_images=600, n_neurons=3)
    condition = replace(default.condition, solver="constant")
    task = replace(default, condition=condition, settings=readout)
    fitted = fit_condition(task)
    training = task.recording.responses[~task.recording.validation]
    np.testing.assert_allclose(fitted.test_predictions[0], training.mean(axis=0), rtol=1e-5)
    assert fitted.inputs["solver"] == {"factor": 1.0} and fitted.key != default.key
    assert division(task) is None
    size = TaskSource(task).size
    assert needed_memory(task) > size.responses
    assert fit_cost(size, readout, n_fits=1, workers=4).core_seconds > 0


def test_an_experiment_with_an_unknown_solver_names_the_known_ones(toy, tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text('[readout]\nsolver = "sgd"\n')
    with pytest.raises(UserError, match=r"readout\.solver = 'sgd': choose one of als, adamw, con"):
        load_experiment(path)


def test_the_key_of_a_default_fit_holds_what_earlier_versions_hashed():
    als, adamw = (
        SOLVERS[name].identity(ReadoutSettings(solver=name).of_solver) for name in ("als", "adamw")
    )
    assert als["folds"] == 0 and "folds" not in adamw
    assert adamw == vars(AdamWSettings())


def test_zeros_that_are_rounded_are_zeros_as_in_a_recording():
    x_train, r_train, x_val, r_val = plant(n_trials=400, noise=0.5, link="elu").split(100)
    r_train, r_val = np.maximum(r_train - 1, 0), np.maximum(r_val - 1, 0)
    expected = fit_readouts(x_train, r_train, x_val, r_val)
    rounded = [np.where(r == 0, np.float32(-4e-8), r) for r in (r_train, r_val)]
    fit = fit_readouts(x_train, rounded[0], x_val, rounded[1])
    np.testing.assert_array_equal(fit.bias, expected.bias)
    np.testing.assert_array_equal(fit.channel_weights, expected.channel_weights)
    with pytest.raises(UserError, match="negative"):
        fit_readouts(x_train, r_train, x_val, np.where(r_val == 0, np.float32(-1e-4), r_val))
