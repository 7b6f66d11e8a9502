"""A core beside tokens: true centres, sources of one size, and what both together explain."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from cache import UserError
from stages.baseline.cnn_vit.common_grid import common_grid
from stages.baseline.cnn_vit.inputs import HeldTokens
from stages.baseline.cnn_vit.network import CnnVit
from stages.baseline.fullmodel import FullModel
from stages.baseline.settings import BaselineSettings
from stages.readouts.readout import Readout
from stages.recordings.recording import Recording
from stages.scores import mean_score
from stages.tokens.random_access import RowsInMemory
from stages.training.descent import Descent
from stages.training.loop import LoopSettings, train
from stages.training.network import RecordedNetwork

SETTINGS = BaselineSettings(
    kernels=(3, 3), channels=(4, 6), batch_size=20, learning_rate=0.02, epochs=(8,), patience=8,
    initial_scale=0.2, space_decay=0.1,
)  # fmt: skip


def tokens(grid, *, size=(32, 64), crop=(0, 16), first=None, stride=None):
    """What a result says of the tokens beside its core."""
    places = None if first is None else {"first_centre": first, "stride": stride, "passes": 1}
    seen = {"crop": crop, "input_size": size}
    return {"preprocessing": seen, "grid": grid, "places": places}


#: Raw images of 8 x 16 pixels. The core sees columns 2 to 14, enlarged; the ViT all, or others.
COARSE = tokens((2, 4), first=(8, 8), stride=(16, 16))
FINE = tokens((16, 40), crop=(2, 16), first=(1, 0.8), stride=(2, 1.6))
UNPLACED = tokens((2, 4))


def grid_of(said):
    return common_grid(image_shape=(8, 16), crop=(2, 14), size=(8, 18), tokens=said)


def raw_centres(said):
    """Centres of the core's cells, and of the tokens, in raw pixels, one by one."""
    core = [2 * i + 1 for i in range(4)], [2 + (2 * j + 1) * 12 / 18 for j in range(9)]
    (rows, columns), (first, last) = (
        said["preprocessing"]["input_size"],
        said["preprocessing"]["crop"],
    )
    vit = said["places"] or {"first_centre": (8, 8), "stride": (16, 16)}
    places = [
        [vit["first_centre"][axis] + k * vit["stride"][axis] for k in range(said["grid"][axis])]
        for axis in (0, 1)
    ]
    scaled = (
        [y * 8 / rows for y in places[0]],
        [first + x * (last - first) / columns for x in places[1]],
    )
    return core, scaled


def model(said, n_channels=5, *, seed=0, neurons=3):
    generator = torch.Generator().manual_seed(seed)
    return CnnVit(
        SETTINGS,
        grid=grid_of(said),
        mean=torch.randn(n_channels, generator=generator),
        deviation=torch.rand(n_channels, generator=generator) + 0.5,
        neurons=np.arange(neurons),
        seed=seed,
    )


def interpolated(values, own, fine):
    """Feature maps (n, row, column, channel) at other centres; outermost cells count beyond."""
    rows, columns = (np.clip(f, o[0], o[-1]) for f, o in zip(fine, own, strict=True))
    at = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1)
    moved = np.moveaxis(values, 0, -1)
    return np.moveaxis(RegularGridInterpolator(own, moved)(at), -1, 0)


@pytest.mark.parametrize(("said", "size"), [(COARSE, (4, 9)), (FINE, (16, 40)), (UNPLACED, (4, 9))])
def test_the_readout_reads_both_interpolated_at_the_finer_centres(said, size):
    """Against the plain way: interpolate both by scipy, join their channels, and read."""
    network = model(said).eval()
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.standard_normal((2, 1, 8, 18), dtype=np.float32))
    stored = torch.from_numpy(rng.standard_normal((2, *said["grid"], 5), dtype=np.float32))
    with torch.no_grad():
        found, features = network((images, stored)), network.core(images)
    core, vit = raw_centres(said)
    fine = vit if said is FINE else core
    normal = ((stored - network.mean) / network.deviation).numpy()
    joined = [interpolated(features.numpy(), core, fine), interpolated(normal, vit, fine)]
    read = torch.from_numpy(np.concatenate(joined, axis=-1)).float()
    assert tuple(read.shape[1:3]) == size == grid_of(said).size
    with torch.no_grad():
        torch.testing.assert_close(found, network.readout(read), rtol=1e-4, atol=1e-5)


def test_places_are_those_of_the_finer_grid_in_pixels_of_the_core():
    of_core, of_tokens = grid_of(COARSE).places, grid_of(FINE).places
    assert of_core.first_centre == (1, 1) and of_core.stride == (2, 2)
    # A raw column has 1.5 pixels of the core and 40 / 14 tokens; both begin at column 2.
    np.testing.assert_allclose(of_tokens.stride, (0.5, 1.5 * 14 / 64 * 1.6))
    np.testing.assert_allclose(of_tokens.first_centre, (0.25, 1.5 * 14 / 64 * 0.8))


def test_what_both_networks_share_begins_alike():
    """A seed's core and its readout's core channels are those of the fullmodel alone."""
    alone = FullModel(SETTINGS, input_size=(8, 18), neurons=np.arange(3), seed=0).state_dict()
    both = model(COARSE).state_dict()
    for name in alone:
        shared = both[name][:, :6] if "channel_weights" in name else both[name]
        assert torch.equal(alone[name], shared)
    groups = model(COARSE).optimizer(SETTINGS, 1e-3).param_groups
    assert [g["weight_decay"] for g in groups] == [0.1, 0.1, 0.1, 0.0]


def held(values):
    """Held tokens of images 0, 1, ..."""
    rows = RowsInMemory(torch.from_numpy(values))
    return HeldTokens(np.arange(len(values)), values.shape[1:], rows)


def test_tokens_are_measured_over_the_training_images_each_once():
    values = np.random.default_rng(0).standard_normal((9, 2, 3, 4)).astype(np.float16)
    values[..., 1] *= 100
    values[..., 2] = 7
    mean, deviation = held(values).measured(np.array([5, 1, 5, 2]))
    seen = values[[1, 2, 5]].astype(np.float64).reshape(-1, 4)
    np.testing.assert_allclose(mean, seen.mean(axis=0), rtol=1e-5)
    varying = [0, 1, 3]
    np.testing.assert_allclose(deviation[varying], seen.std(axis=0)[varying], rtol=1e-5)
    # What is constant is not blown up.
    assert deviation[2] == pytest.approx(1e-3 * np.sqrt(np.square(seen).mean()), rel=1e-4)
    values[2, 0, 0, 0] = np.inf
    with pytest.raises(UserError, match="not all finite"):
        held(values).measured(np.array([2]))


def planted(seed=0, n_images=240, n_neurons=6):
    """Half of each neuron's drive is a random core's, half comes from tokens of another source."""
    rng = np.random.default_rng(seed)
    images = rng.standard_normal((n_images, 1, 8, 18)).astype(np.float32)
    stored = 50 + 20 * rng.standard_normal((n_images, 2, 4, 5)).astype(np.float32)
    truth = model(COARSE, seed=seed + 1, neurons=n_neurons).eval()
    with torch.no_grad():
        drives = [
            _drive(rng, n_neurons, torch.from_numpy(part))
            for part in (truth.core(torch.from_numpy(images)).numpy(), stored)
        ]
    z = sum(drives) / np.sqrt(2)
    rates = np.where(z > 0, z + 1, np.exp(np.minimum(z, 0))).astype(np.float32)
    return SimpleNamespace(images=images, tokens=stored, rates=rates)


def _drive(rng, n_neurons, features):
    """Drives of unit variance from random separable readouts of one source."""
    _, rows, columns, channels = features.shape
    row, column = (
        np.exp(-((np.arange(n) - rng.uniform(0, n - 1, (n_neurons, 1))) ** 2))
        for n in (rows, columns)
    )
    readout = Readout(
        row_weights=torch.from_numpy(row).float(),
        column_weights=torch.from_numpy(column).float(),
        channel_weights=torch.from_numpy(rng.standard_normal((n_neurons, channels))).float(),
        bias=torch.zeros(n_neurons),
    )
    z = readout(features).numpy()
    return (z - z.mean(axis=0)) / z.std(axis=0)


def explained(data, network, inputs):
    """Mean variance explained on images that were neither trained on nor chosen by."""
    ids = np.arange(len(data.images))
    recording = Recording(
        name="made", neurons=np.arange(data.rates.shape[1]), image_ids=ids[:200],
        responses=data.rates[:200], validation=ids[:200] >= 160, test_image_ids=ids[200:],
        test_responses=data.rates[200:, None],
    )  # fmt: skip
    scale = np.ones(data.rates.shape[1], dtype=np.float32)
    loop = LoopSettings(
        batch_size=20, patience=8, start_counts=False, seed=0, what="made", remedy="less"
    )
    learner = RecordedNetwork(network, inputs, recording, scale=scale, pass_size=100)
    train(Descent(learner, network.phases(SETTINGS), loop))
    return mean_score(data.rates[200:], learner.predict(ids[200:]))


def test_both_together_explain_what_neither_does_alone():
    data = planted()
    images, stored = torch.from_numpy(data.images), torch.from_numpy(data.tokens)
    mean, deviation = held(data.tokens).measured(np.arange(160))
    options = {"neurons": np.arange(6), "seed": 0}

    def beside(shown):
        network = CnnVit(SETTINGS, grid=grid_of(COARSE), mean=mean, deviation=deviation, **options)
        return explained(data, network, lambda ids: (images[ids] * shown, stored[ids]))

    alone = explained(
        data, FullModel(SETTINGS, input_size=(8, 18), **options), lambda ids: images[ids]
    )
    both, blind = beside(1), beside(0)
    assert both > max(alone, blind) + 0.1
