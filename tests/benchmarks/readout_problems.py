"""Problems for the readout solvers: planted ones of the real shape, and a recording's.

Random-weight tokens carry little of what neurons respond to, so a recording's features are
rectified Gabor responses.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from support.recording_files import images_of, read_file

from benchmarks.gabor import gabor_features
from stages.readouts import ALSSettings
from stages.readouts.als.cost import als_operations
from stages.readouts.sizes import FitSize


@dataclass(frozen=True)
class Features:
    """Tokens and responses of one problem; `r_test` has repeats, (image, repeat, neuron)."""

    name: str
    x_train: NDArray[np.generic]
    r_train: NDArray[np.float32]
    x_val: NDArray[np.generic]
    r_val: NDArray[np.float32]
    x_test: NDArray[np.generic]
    r_test: NDArray[np.float32]

    def of(self, n_neurons: int) -> Features:
        """The same with the first neurons."""
        some = slice(n_neurons)
        return Features(
            self.name,
            self.x_train,
            self.r_train[:, some],
            self.x_val,
            self.r_val[:, some],
            self.x_test,
            self.r_test[..., some],
        )


def products_of_als(features: Features) -> float:
    """Floating point operations of the matrix products in a fit by the default solver, counted."""
    n_trials, rows, columns, channels = features.x_train.shape
    size = FitSize(
        n_trials=n_trials + len(features.x_val),
        n_rows=rows,
        n_columns=columns,
        n_channels=channels,
        n_neurons=features.r_train.shape[1],
    )
    shards, groups = als_operations(size, ALSSettings())
    counted = shards + groups
    return 1e9 * sum(counted[kind] for kind in ("token products", "neuron products", "solving"))


def planted(
    *,
    n_neurons: int,
    n_train: int,
    n_validation: int,
    n_channels: int,
    grid: tuple[int, int] = (4, 8),
    seed: int = 0,
) -> Features:
    """Tokens whose spectrum falls as a ViT's, and neurons that read them, half of it noise."""
    (rows, columns), n_test, n_repeats = grid, 100, 10
    draw = np.random.default_rng(seed)
    n = n_train + n_validation + n_test
    falling = np.arange(1, n_channels + 1, dtype=np.float32) ** -0.75
    basis = np.linalg.qr(draw.standard_normal((n_channels,) * 2))[0].astype(np.float32)
    x = np.empty((n, rows, columns, n_channels), dtype=np.float16)
    step = max(1, 32_000 // (rows * columns))
    for first in range(0, n, step):
        part = draw.standard_normal((len(x[first : first + step]), rows, columns, n_channels))
        # Neighbouring patches have much in common.
        part = part + part.mean(axis=(1, 2), keepdims=True) * 3
        x[first : first + step] = (part.astype(np.float32) * falling) @ basis
    row, column = (
        np.exp(-((np.arange(size) - draw.uniform(0, size - 1, (n_neurons, 1))) ** 2))
        for size in (rows, columns)
    )
    channel = np.zeros((n_neurons, n_channels))
    channel[:, :12] = draw.standard_normal((n_neurons, 12))
    channel = channel @ basis
    space = (row[:, :, None] * column[:, None]).reshape(n_neurons, -1).astype(np.float32)
    z = np.concatenate(
        [
            np.einsum("npm,mp->nm", part.reshape(len(part), rows * columns, -1) @ channel.T, space)
            for part in (some.astype(np.float32) for some in np.array_split(x, 1 + n // step))
        ]
    )
    z *= 0.85 / z.std(axis=0)
    rates = np.where(z > 0, z + 1, np.exp(np.minimum(z, 0)))
    shape = 1 / rates.var(axis=0)  # of gamma noise whose variance is that of the rates

    def respond(mean: NDArray[np.float64]) -> NDArray[np.float32]:
        noise = draw.gamma(shape, size=mean.shape) / shape
        responses: NDArray[np.float32] = (mean * noise).astype(np.float32)
        return responses

    train, val = np.split(np.arange(n - n_test), [n_train])
    test = np.arange(n - n_test, n)
    repeated = np.broadcast_to(rates[test][:, None], (n_test, n_repeats, n_neurons))
    return Features(
        "synthetic", x[train], respond(rates[train]), x[val], respond(rates[val]),
        x[test], respond(repeated),
    )  # fmt: skip


def recorded(path: Path) -> Features:
    """Gabor features of a recording in the Sensorium layout."""
    recording = read_file("sensorium", path, name="recording")
    stimuli = images_of("sensorium", path)
    ids = recording.all_image_ids
    tokens = gabor_features(stimuli.read(ids))
    rows = np.searchsorted(ids, recording.image_ids)
    held_out = recording.validation
    return Features(
        "recording", tokens[rows[~held_out]], recording.responses[~held_out],
        tokens[rows[held_out]], recording.responses[held_out],
        tokens[np.searchsorted(ids, recording.test_image_ids)], recording.test_responses,
    )  # fmt: skip
