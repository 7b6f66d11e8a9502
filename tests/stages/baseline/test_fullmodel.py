"""The CNN fullmodel: its layers, what it sees, and its protocol of training."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from cache import UserError
from stages.baseline.fullmodel import Core, FullModel
from stages.baseline.images import grey_images
from stages.baseline.settings import BaselineSettings, pooled_size
from stages.readouts.readout import Readout, rate
from stages.recordings.recording import Recording
from stages.scores import mean_score
from stages.stimuli.stimuli import stimuli_from_array
from stages.training.descent import Descent
from stages.training.loop import LoopSettings, train
from stages.training.network import RecordedNetwork

SETTINGS = BaselineSettings(
    kernels=(5, 3), channels=(4, 6), batch_size=16, learning_rate=0.01, epochs=(3, 2, 0, 2),
    patience=2,
)  # fmt: skip
LOOP = LoopSettings(
    batch_size=16, patience=2, start_counts=False, seed=3, what="cnn_fullmodel", remedy="less"
)


def stack(n_images=60, shape=(10, 14), dtype=np.uint8):
    rng = np.random.default_rng(0)
    return stimuli_from_array(rng.integers(0, 256, (n_images, *shape)).astype(dtype), source="made")


def model(n_neurons=5, seed=3):
    neurons = np.arange(n_neurons)
    return FullModel(SETTINGS, input_size=(10, 14), neurons=neurons, seed=seed)


@pytest.fixture(scope="module")
def data():
    images = grey_images(stack(), crop=(0, 14))
    contrast = np.abs(np.diff(images.pixels.astype(np.float32), axis=2)).mean(axis=1)[:, 2:7]
    return images, contrast / contrast.std(axis=0)


def training(data, network):
    images, responses = data
    recording = Recording(
        name="made", neurons=np.arange(5), image_ids=np.arange(60), responses=responses,
        validation=np.arange(60) >= 44, test_image_ids=np.arange(2),
        test_responses=responses[:2, None],
    )  # fmt: skip
    scale = np.ones(5, dtype=np.float32)
    return RecordedNetwork(network, images.batch, recording, scale=scale, pass_size=100)


def test_the_core_is_the_published_layers():
    core = Core(SETTINGS, seed=0).train()
    images = torch.randn(7, 1, 10, 15)
    x = functional.conv2d(images, core.conv.weight, padding=2)
    x = functional.batch_norm(x, None, None, training=True)
    x = functional.max_pool2d(functional.elu(x), 2)
    x = functional.conv2d(x, core.mix_in.weight)
    x = functional.conv2d(x, core.depthwise.weight, padding=1, groups=6)
    x = functional.conv2d(x, core.mix_out.weight)
    x = functional.elu(functional.batch_norm(x, None, None, training=True))
    features = core(images)
    assert features.shape == (7, 5, 7, 6)
    torch.testing.assert_close(features, x.permute(0, 2, 3, 1))


def test_batch_statistics_enter_the_running_ones_by_the_momentum():
    core = Core(SETTINGS, seed=0).train()
    images = torch.randn(7, 1, 10, 14)
    expected = functional.conv2d(images, core.conv.weight, padding=2).mean(dim=(0, 2, 3))
    core(images)
    torch.testing.assert_close(core.norm1.running_mean, 0.9 * expected)


def test_convolutions_are_xavier_normal_without_bias():
    core = Core(BaselineSettings(kernels=(25, 9), channels=(16, 320)), seed=0)
    convolutions = [m for m in core.modules() if isinstance(m, nn.Conv2d)]
    assert [tuple(c.weight.shape) for c in convolutions] == [
        (16, 1, 25, 25), (320, 16, 1, 1), (320, 1, 9, 9), (320, 320, 1, 1),
    ]  # fmt: skip
    for conv in convolutions:
        fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(conv.weight)
        assert conv.weight.std().item() == pytest.approx((2 / (fan_in + fan_out)) ** 0.5, rel=0.05)
        assert conv.bias is None


def test_the_seed_decides_all_initial_weights_and_no_neuron_anothers():
    first, same, other = model().state_dict(), model().state_dict(), model(seed=4).state_dict()
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["core.conv.weight"], other["core.conv.weight"])
    fewer = model(n_neurons=2).state_dict()
    assert torch.equal(fewer["readout.row_weights"], first["readout.row_weights"][:2])


def test_the_readout_is_the_same_in_both_orders_of_summation():
    """A large grid takes space first, a small one channels first."""
    generator = torch.Generator().manual_seed(0)
    tokens, row, column, channel, bias = (
        torch.rand(shape, generator=generator)
        for shape in ((6, 4, 5, 3), (2, 4), (2, 5), (2, 3), (2,))
    )
    readout = Readout(row_weights=row, column_weights=column, channel_weights=channel, bias=bias)
    expected = torch.einsum("byxc,ny,nx,nc->bn", tokens, row, column, channel) + bias
    torch.testing.assert_close(readout(tokens).detach(), expected)
    wide = Readout(
        row_weights=row[:, :1], column_weights=column[:, :2], channel_weights=channel, bias=bias
    )
    expected = torch.einsum(
        "byxc,ny,nx,nc->bn", tokens[:, :1, :2], row[:, :1], column[:, :2], channel
    )
    torch.testing.assert_close(wide(tokens[:, :1, :2]).detach(), expected + bias)


def test_images_are_cropped_and_scored_over_the_whole_stack():
    stimuli = stack(300)
    images = grey_images(stimuli, crop=(3, 11))
    assert images.pixels.dtype == np.uint8 and images.pixels.shape == (300, 10, 8)
    seen = images.batch(np.arange(300))
    assert seen.shape == (300, 1, 10, 8) and seen.dtype == torch.float32
    assert seen.mean().abs() < 1e-5 and seen.std(correction=0) == pytest.approx(1, abs=1e-5)
    raw = stimuli.read(np.array([7]))[0, :, 3:11].astype(np.float64)
    np.testing.assert_allclose(
        images.batch(np.array([7]))[0, 0], (raw - images.mean) / images.std, rtol=1e-4
    )


def test_images_of_another_size_are_resized_before_scoring():
    images = grey_images(stack(), crop=(0, 14), size=(20, 21))
    seen = images.batch(np.arange(60))
    assert seen.shape == (60, 1, 20, 21)
    assert seen.std(correction=0) == pytest.approx(1, abs=1e-4)


def test_images_that_are_all_the_same_are_refused():
    flat = stimuli_from_array(np.full((5, 4, 4), 7, np.uint8), source="made")
    with pytest.raises(UserError, match="same value"):
        grey_images(flat, crop=(0, 4))


def test_images_are_found_by_id():
    images = grey_images(stack().select(np.array([40, 2, 9])), crop=(0, 14))
    found, whole = images.batch(np.array([40, 2, 40, 9])), images.batch(np.array([2, 9, 40]))
    assert torch.equal(found, whole[[2, 0, 2, 1]])


def test_too_small_an_image_is_refused():
    with pytest.raises(UserError, match="pools 2 x 2 pixels"):
        pooled_size((1, 9))


def test_normalisation_follows_the_batch_only_while_training(data):
    network = model()
    learner = training(data, network)
    next(iter(learner.losses(np.arange(16))))
    assert network.training
    before = {name: value.clone() for name, value in network.state_dict().items()}
    learner.score()
    assert not network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_weight_decay_by_part():
    network = model()
    groups = network.optimizer(SETTINGS, 1e-3).param_groups
    assert [g["weight_decay"] for g in groups] == [0.1, 1.0, 0.1, 0.0]
    assert sum(len(g["params"]) for g in groups) == len(list(network.parameters()))


def plain_training(data):
    """The protocol as plainly as it is described."""
    images, responses = data
    network = model()
    readout = network.readout
    best, best_score, stale, number, scores = None, -np.inf, 0, 0, []
    for phase, epochs in enumerate(SETTINGS.epochs):
        if best is not None:
            network.load_state_dict(best)
        optimizer = torch.optim.AdamW(
            [
                {"params": network.core.parameters(), "weight_decay": 0.1},
                {"params": [readout.row_weights, readout.column_weights], "weight_decay": 1.0},
                {"params": [readout.channel_weights], "weight_decay": 0.1},
                {"params": [readout.bias], "weight_decay": 0.0},
            ],
            lr=0.01 / 3**phase,
        )
        for epoch in range(epochs):
            if epoch and stale >= 2:
                break
            order = np.random.default_rng([3, number]).permutation(44)
            number += 1
            network.train()
            for first in range(0, 44, 16):
                trials = order[first : first + 16]
                mu = functional.elu(network(images.batch(trials))) + 1
                r = torch.from_numpy(responses[trials])
                loss = (mu - r * mu.log()).sum(dim=0).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                readout.row_weights.data.clamp_(min=0)
                readout.column_weights.data.clamp_(min=0)
            network.eval()
            with torch.no_grad():
                rates = rate(network(images.batch(np.arange(44, 60)))).numpy()
            scores.append(mean_score(responses[44:], rates))
            stale += 1
            if scores[-1] > best_score:
                best_score, stale = scores[-1], 0
                best = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(best)
    return network, scores


def test_training_follows_the_protocol(data):
    learner = training(data, model())
    trained = train(Descent(learner, learner.module.phases(SETTINGS), LOOP))
    plain, scores = plain_training(data)
    assert [e.validation_score for e in trained.curve] == pytest.approx(scores, abs=1e-5)
    for name, value in plain.state_dict().items():
        torch.testing.assert_close(learner.module.state_dict()[name], value, rtol=1e-4, atol=1e-5)
    assert (learner.module.readout.row_weights >= 0).all()


def test_a_missing_response_pulls_at_no_weight(data):
    images, responses = data
    rows = np.arange(16)
    gaps = responses.copy()
    gaps[rows, 2] = np.nan
    gradients = []
    for given in (responses, gaps):
        network = model()
        learner = training((images, given.astype(np.float32)), network)
        (losses,) = learner.losses(rows)
        losses.objective.backward()
        gradients.append(network.readout.channel_weights.grad)
        assert torch.isfinite(losses.poisson)
    others = [0, 1, 3, 4]
    torch.testing.assert_close(gradients[1][others], gradients[0][others])
    assert (gradients[1][2] == 0).all() and (gradients[0][2] != 0).any()
    assert learner.n_responses == 44 * 5 - 16 and np.isfinite(learner.score())
