"""The grouped minimodels against one plain network per neuron, alone and among others."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from benchmarks.plain_minimodel import PlainMinimodel
from torch.nn import functional

from cache import UserError
from stages.baseline.images import grey_images
from stages.baseline.minimodel import Minimodels, first_layer
from stages.baseline.minimodel_population import Population
from stages.baseline.minimodel_training import MinimodelTraining
from stages.baseline.per_neuron_adamw import AdamWMoments, adamw_step
from stages.baseline.settings import BaselineSettings, MinimodelSettings
from stages.recordings.recording import Recording
from stages.scores import variance_explained
from stages.stimuli.stimuli import stimuli_from_array
from stages.training.checkpoints import Checkpoint
from stages.training.loop import LoopSettings, train

SETTINGS = BaselineSettings(
    kernels=(5, 3), channels=(4, 8), batch_size=16, learning_rate=0.01, epochs=(3, 2, 0, 2),
    patience=2, minimodel=MinimodelSettings(channels=6),
)  # fmt: skip
SMALL = Minimodels(SETTINGS, (10, 14))
LOOP = LoopSettings(
    batch_size=16, patience=2, start_counts=False, seed=3, what="cnn_minimodel", remedy="less"
)


@pytest.fixture(scope="module")
def kernels():
    return torch.randn(4, 1, 5, 5, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def data(kernels):
    """Neurons that answer to local contrast, on 60 images of 10 x 14."""
    rng = np.random.default_rng(0)
    stimuli = stimuli_from_array(rng.integers(0, 256, (60, 10, 14), dtype=np.uint8), source="made")
    images = grey_images(stimuli, crop=(0, 14))
    contrast = np.abs(np.diff(images.pixels.astype(np.float32), axis=2)).mean(axis=1)[:, 2:7]
    responses = torch.from_numpy(contrast / contrast.std(axis=0))
    return SimpleNamespace(
        images=images, validation=np.arange(44, 60), r_train=responses[:44],
        r_validation=responses[44:], neurons=np.array([0, 3, 4, 7, 9]), kernels=kernels,
    )  # fmt: skip


def of(data, chosen):
    return SimpleNamespace(
        images=data.images, validation=data.validation, r_train=data.r_train[:, chosen],
        r_validation=data.r_validation[:, chosen], neurons=data.neurons[chosen],
        kernels=data.kernels,
    )  # fmt: skip


def learner(data, settings=SETTINGS, **options):
    responses = torch.cat([data.r_train, data.r_validation]).numpy()
    recording = Recording(
        name="made", neurons=data.neurons, image_ids=np.arange(60), responses=responses,
        validation=np.arange(60) >= 44, test_image_ids=np.arange(2),
        test_responses=responses[:2, None],
    )  # fmt: skip
    return MinimodelTraining(data.images, recording, data.kernels, settings, LOOP, **options)


def trained(data, settings=SETTINGS, **options):
    training = learner(data, settings, **options)
    return outcome(training, train(training))


def outcome(training, trained):
    return SimpleNamespace(**vars(training.population), curve=trained.curve)


def initial(data):
    return SMALL.initial(data.neurons, seed=3)


def test_forward_and_gradients_are_those_of_a_plain_network(data):
    weights = initial(data)
    named = {name: part.clone() for name, part in SMALL.named(weights).items()}
    named["norm1_weight"].copy_(torch.linspace(-1, 1, 20).view(5, 4))  # both signs
    named["norm1_bias"].fill_(0.1)
    weights = torch.cat(list(named.values()), dim=1)
    running = SMALL.initial_running(5)
    images = data.images.batch(np.arange(20))
    pooled = first_layer(images, data.kernels)
    weights.requires_grad_()
    z = SMALL.forward(weights, running, pooled, training=True)
    (gradients,) = torch.autograd.grad(z.square().sum(), weights)
    evaluated = SMALL.forward(weights.detach(), running, pooled, training=False)
    for neuron in range(5):
        plain = PlainMinimodel(SMALL, data.kernels, weights[neuron].detach())
        plain.norm1.weight.data = named["norm1_weight"][neuron].clone()
        plain.norm1.bias.data = named["norm1_bias"][neuron].clone()
        expected = plain(images)
        torch.testing.assert_close(z[:, neuron].detach(), expected.detach())
        expected.square().sum().backward()
        got = SMALL.named(gradients)
        close = {"rtol": 1e-4, "atol": 1e-7}
        torch.testing.assert_close(got["norm1_weight"][neuron], plain.norm1.weight.grad, **close)
        torch.testing.assert_close(got["mix"][neuron], plain.mix.weight.grad.flatten(), **close)
        depthwise = plain.depthwise.weight.grad.flatten()
        torch.testing.assert_close(got["depthwise"][neuron], depthwise, **close)
        torch.testing.assert_close(got["row_weights"][neuron], plain.rows.grad, **close)
        torch.testing.assert_close(running["variance1"][neuron], plain.norm1.running_var)
        torch.testing.assert_close(running["mean2"][neuron], plain.norm2.running_mean)
        plain.eval()
        torch.testing.assert_close(evaluated[:, neuron], plain(images).detach())


def test_adamw_is_torchs_for_every_neurons_own_rate_and_decay():
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 4, generator=generator)
    rates, decays = torch.tensor([0.1, 0.01, 0.0]), torch.tensor([0.0, 0.5, 1.0, 0.1])
    weights, moments = start.clone(), AdamWMoments.fresh(start)
    parameters = [[torch.nn.Parameter(start[n, i].clone()) for i in range(4)] for n in range(3)]
    optimizers = [
        torch.optim.AdamW(
            [{"params": [p], "weight_decay": d} for p, d in zip(row, decays.tolist(), strict=True)],
            lr=rate,
        )
        for row, rate in zip(parameters, rates.tolist(), strict=True)
    ]
    for _ in range(4):
        gradients = torch.randn(3, 4, generator=generator)
        adamw_step(weights, gradients, moments, learning_rates=rates, decays=decays)
        for row, values, optimizer in zip(parameters, gradients, optimizers, strict=True):
            for parameter, value in zip(row, values, strict=True):
                parameter.grad = value.clone()
            optimizer.step()
    torch.testing.assert_close(weights, torch.tensor([[p.item() for p in r] for r in parameters]))
    assert torch.equal(weights[2], start[2])


def test_a_neuron_trained_alone_is_the_same_as_among_others(data):
    together = trained(data)
    for chosen in ([1], [4, 1]):
        alone = trained(of(data, chosen))
        torch.testing.assert_close(alone.weights, together.weights[chosen], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone.score, together.score[chosen], rtol=1e-4, atol=1e-5)


def test_neurons_may_be_computed_one_at_a_time(data, monkeypatch):
    monkeypatch.setattr("stages.baseline.minimodel_training.CPU_ELEMENTS", 1)
    one_at_a_time = trained(data)
    monkeypatch.undo()
    torch.testing.assert_close(one_at_a_time.weights, trained(data).weights, rtol=1e-4, atol=1e-5)


def plain_training(data, neuron, settings):
    """The protocol for one neuron, written as plainly as it is described."""
    model = PlainMinimodel(SMALL, data.kernels, initial(data)[neuron])
    r_train, r_validation = data.r_train[:, neuron], data.r_validation[:, [neuron]].numpy()
    best, best_score, stale, number = None, -np.inf, 0, 0
    for rate, epochs in zip(settings.learning_rates, settings.epochs, strict=True):
        if best is not None:
            model.load_state_dict(best)
        space = [model.rows, model.columns]
        known = {id(p) for p in [*space, model.channels, model.bias, model.conv.weight]}
        optimizer = torch.optim.AdamW(
            [
                {"params": [p for p in model.parameters() if id(p) not in known],
                 "weight_decay": 0.1},
                {"params": space, "weight_decay": 1.0},
                {"params": [model.channels], "weight_decay": 0.2},
                {"params": [model.bias], "weight_decay": 0.0},
            ],
            lr=rate,
        )  # fmt: skip
        for epoch in range(epochs):
            if epoch and stale >= settings.patience:
                break
            order = np.random.default_rng([3, number]).permutation(44)
            number += 1
            model.train()
            for first in range(0, 44, 16):
                trials = order[first : first + 16]
                z = model(data.images.batch(trials))
                mu = functional.elu(z) + 1
                poisson = (mu - r_train[trials] * mu.log()).sum()
                sparsity = model.channels.abs().sum() ** 2 / model.channels.square().sum()
                optimizer.zero_grad()
                (poisson + 0.03 * sparsity).backward()
                optimizer.step()
                for weights in space:
                    weights.data.clamp_(min=0)
            model.eval()
            with torch.no_grad():
                mu = functional.elu(model(data.images.batch(data.validation))) + 1
            (score,) = variance_explained(r_validation, mu[:, None].numpy())
            stale += 1
            if score > best_score:
                best_score, stale = score, 0
                best = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(best)
    return model, best_score, number


def test_training_follows_the_protocol(data):
    together = trained(data)
    lengths = []
    for neuron in range(5):
        plain, score, epochs = plain_training(data, neuron, SETTINGS)
        lengths.append(epochs)
        torch.testing.assert_close(together.weights[neuron], plain.flat(), rtol=1e-3, atol=1e-4)
        assert float(together.score[neuron]) == pytest.approx(score, abs=1e-4)
    assert len(together.curve) == max(lengths)


def test_neurons_stop_by_themselves():
    """Scores given by hand: who improves goes on, who does not goes through its phases."""
    weights = torch.zeros(2, 3)
    population = Population.start(weights, {"mean1": torch.zeros(2, 1)})
    epochs, patience = torch.tensor([4, 3]), 2
    population.next_phases(epochs, patience)
    phases = []
    for scores in [[0.1, 0.1], [0.2, 0.0], [0.3, 0.0], [0.4, 0.0]]:
        active = population.active
        active.weights += 1
        given = torch.tensor(scores)[active.who]
        population.record(torch.ones(len(given)), given)
        population.next_phases(epochs, patience)
        phases.append(dict(zip(*(t.tolist() for t in (active.who, active.phase)), strict=True)))
    # Neuron 1: two epochs without a better score end phase 0, one more ends phase 1.
    assert [p.get(1) for p in phases] == [0, 0, 1, 2]
    # Neuron 0 improves until phase 0 has had its four epochs.
    assert [p[0] for p in phases] == [0, 0, 0, 1]
    assert population.active.who.tolist() == [0]
    # A phase starts from the best so far.
    assert population.weights.tolist() == [[4, 4, 4], [1, 1, 1]]
    assert population.active.weights.tolist() == [[4, 4, 4]]
    # Whoever is done counts with its best score in the curve.
    assert population.means()[1] == pytest.approx((0.4 + 0.1) / 2)


def test_an_interrupted_training_goes_on_exactly(data, tmp_path):
    whole = trained(data)

    class Stop(Exception):
        pass

    def stop(epoch):
        if epoch.epoch == 2:
            raise Stop

    checkpoint = Checkpoint(tmp_path / "k.pt", "k")
    training = learner(data)
    with pytest.raises(Stop):
        train(training, checkpoint=checkpoint, progress=stop)
    seen = []
    resumed = outcome(training, train(training, checkpoint=checkpoint, progress=seen.append))
    assert torch.equal(resumed.weights, whole.weights)
    assert all(torch.equal(resumed.running[name], whole.running[name]) for name in whole.running)
    assert resumed.curve == whole.curve and [e.epoch for e in seen] == list(range(len(seen)))
    with pytest.raises(UserError, match="other settings"):
        train(training, checkpoint=Checkpoint(tmp_path / "k.pt", "another"))


def test_a_loss_that_is_not_finite_names_neuron_epoch_and_batch(data):
    responses = data.r_train.clone()
    responses[:, 2] = 1e38
    broken = of(data, np.arange(5))
    broken.r_train = responses
    with pytest.raises(FloatingPointError, match=r"neuron 4 .* in epoch 0, batch \d+: lower"):
        trained(broken)


def test_trained_minimodels_fit_and_predict(data):
    population = trained(data)
    losses = [epoch.training_loss for epoch in population.curve]
    assert min(losses) < losses[0] - 0.05
    training = learner(data)
    rates = training.predict(population.weights, population.running, data.validation)
    explained = variance_explained(data.r_validation.numpy(), rates)
    np.testing.assert_allclose(explained, population.score, atol=1e-5)


def test_a_neuron_is_trained_on_its_own_trials(data):
    """What one misses changes none of the others, and its own loss is that of its own trials."""
    r_train, r_validation = data.r_train.clone(), data.r_validation.clone()
    r_train[::2, 1] = torch.nan
    r_validation[3:, 1] = torch.nan
    gaps = SimpleNamespace(**{**vars(data), "r_train": r_train, "r_validation": r_validation})
    found, whole = trained(gaps), trained(data)
    others = [0, 2, 3, 4]
    torch.testing.assert_close(found.weights[others], whole.weights[others], rtol=0, atol=1e-6)
    assert torch.isfinite(found.weights).all() and torch.isfinite(found.score).all()
    assert not torch.equal(found.weights[1], whole.weights[1])
