"""Minimodels trained side by side against the same number trained one after another.

    python -m benchmarks.minimodels [--neurons 200] [--device cpu] [--size 36 64] [--kernels 13 5]

Both take the same step on the same batch of 100 images: forward, backward, AdamW, projection. One
after another means a plain torch network per neuron, its first layer included, as one would write
it; only `--timed` of them are run, since each costs the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch

from benchmarks.plain_minimodel import PlainMinimodel
from stages.baseline.images import grey_images
from stages.baseline.minimodel_population import Population
from stages.baseline.minimodel_training import MinimodelTraining
from stages.baseline.settings import BaselineSettings
from stages.readouts.readout import poisson_loss
from stages.recordings.recording import Recording
from stages.stimuli.stimuli import stimuli_from_array
from stages.training.loop import LoopSettings

BATCH = 100


def main(arguments: Sequence[str] | None = None) -> float:
    """Measure and print; the ratio of the times."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--neurons", type=int, default=200)
    parser.add_argument("--timed", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, nargs=2, default=(36, 64))
    parser.add_argument("--kernels", type=int, nargs=2, default=(13, 5))
    given = parser.parse_args(arguments)
    training, population = _grouped(given)
    plain = _plain(training, population, min(given.timed, given.neurons))

    def grouped_step() -> None:
        training._train_epoch(population.active, 0)

    grouped, single = _means([grouped_step, plain], given.rounds, given.device)
    apart = single * given.neurons / min(given.timed, given.neurons)
    print(
        f"{given.neurons} minimodels on {given.size[0]}x{given.size[1]} images, one step of "
        f"{BATCH} images, {given.device}, {torch.get_num_threads()} threads: grouped "
        f"{grouped:.2f} s, one after another {apart:.2f} s, ratio {apart / grouped:.1f}"
    )
    ratio: float = apart / grouped
    return ratio


def _grouped(given: argparse.Namespace) -> tuple[MinimodelTraining, Population]:
    """A training whose epoch is one batch."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (BATCH, *given.size), dtype=np.uint8)
    settings = BaselineSettings(kernels=tuple(given.kernels), batch_size=BATCH)
    # One image more than is trained on: a recording needs validation.
    ids = np.r_[np.arange(BATCH), 0]
    responses = rng.gamma(1.0, 1.0, (len(ids), given.neurons)).astype(np.float32)
    kernels = torch.from_numpy(
        rng.standard_normal((settings.channels[0], 1, *2 * (given.kernels[0],))).astype(np.float32)
    )
    images = grey_images(
        stimuli_from_array(pixels, source="random images"), crop=(0, given.size[1])
    )
    recording = Recording(
        name="random",
        neurons=np.arange(given.neurons),
        image_ids=ids,
        responses=responses,
        validation=np.arange(len(ids)) == BATCH,
        test_image_ids=ids[:1],
        test_responses=responses[None, :2],
    )
    loop = LoopSettings(
        batch_size=BATCH, patience=5, start_counts=False, what="benchmark", remedy="use fewer"
    )
    training = MinimodelTraining(images, recording, kernels, settings, loop, device=given.device)
    training.begin(None)
    return training, training.population


def _plain(training: MinimodelTraining, population: Population, n_timed: int) -> Callable[[], None]:
    """One step of each of some plain networks."""
    device = training.device
    networks = [
        PlainMinimodel(training.minimodels, training.kernels, weights).to(device)
        for weights in population.weights[:n_timed].cpu()
    ]
    optimizers = [
        torch.optim.AdamW([p for p in n.parameters() if p.requires_grad], lr=1e-3) for n in networks
    ]

    def step() -> None:
        for neuron, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            images = training.images.batch(training.train_ids, device=device)
            responses = training.r_train[:, neuron].to(device)
            loss = poisson_loss(network(images), responses).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            with torch.no_grad():
                network.rows.clamp_(min=0)
                network.columns.clamp_(min=0)

    return step


def _means(steps: Sequence[Callable[[], None]], rounds: int, device: str) -> list[float]:
    """Mean seconds of each, taken in turn so that a busy machine slows all alike."""
    totals = [0.0] * len(steps)
    for number in range(rounds + 1):
        for way, step in enumerate(steps):
            started = time.perf_counter()
            step()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            if number:  # the first warms up
                totals[way] += time.perf_counter() - started
    return [total / rounds for total in totals]


if __name__ == "__main__":
    main()
