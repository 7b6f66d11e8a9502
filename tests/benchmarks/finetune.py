"""One epoch of fine-tuning: from the cache, from images, and as a pass through all blocks.

    python -m benchmarks.finetune [--images 128] [--neurons 500] [--device cpu]
        [--precision float32]

ViT-S/16 at 64 x 128, `last2` at block 4, batches of 32. All three take the same steps on the same
random images, in the same precision, and train the same parameters; each time is the mean of
`--rounds` epochs, taken in turn. "All blocks" is what a loop does that asks the whole backbone for
its hidden states: 12 blocks forward, of which 5 were needed. Counting a block's backward pass as
two forward ones, that is 16 passes, 9 from images and 6 from the cache.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from stages.backbones.backbone import Backbone, create_backbone
from stages.backbones.settings import BackboneSettings
from stages.finetune.learner import Penalty
from stages.finetune.model import TunedViT
from stages.readouts.readout import Readout
from stages.recordings.recording import Recording
from stages.stimuli.preprocessing import Preprocessing
from stages.stimuli.stimuli import stimuli_from_array
from stages.tokens.random_access import RowsInMemory
from stages.training.descent import Descent, Phase
from stages.training.loop import LoopSettings
from stages.training.network import Inputs, ReadoutNetwork, RecordedNetwork

SIZE, GRID, BLOCK, LAST, BATCH = (64, 128), (4, 8), 4, 2, 32


class AllBlocks(ReadoutNetwork):
    """The same tuned layers and readouts behind a pass through the whole backbone."""

    def __init__(self, backbone: Backbone, readout: Readout) -> None:
        super().__init__()
        self.vit = copy.deepcopy(backbone.model).eval()
        self.readout = readout
        self.precision = backbone.precision
        for block in self.vit.blocks[BLOCK + 1 - LAST : BLOCK + 1]:
            block.requires_grad_(True)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The readouts' linear predictor."""
        with torch.autocast(
            images.device.type, dtype=torch.bfloat16, enabled=self.precision == "bfloat16"
        ):
            outputs = self.vit.forward_intermediates(
                images, norm=False, output_fmt="NLC", intermediates_only=True
            )
        return self.readout(outputs[BLOCK].float().unflatten(1, GRID))


def main(arguments: Sequence[str] | None = None) -> tuple[float, float]:
    """Measure and print; how many times faster the cache is than images and than all blocks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--neurons", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    given = parser.parse_args(arguments)
    cached, images, whole = _means(list(_epochs(given)), given.rounds, given.device)
    print(
        f"ViT-S/16, last{LAST} at block {BLOCK}, {given.neurons} neurons, one epoch of "
        f"{given.images} images, {given.device}, {given.precision}, {torch.get_num_threads()} "
        f"threads: from the cache {cached:.3f} s ({given.images / cached:.0f} images/s), from "
        f"images {images:.3f} s, through all blocks {whole:.3f} s; "
        f"ratios {images / cached:.2f} and {whole / cached:.2f}"
    )
    return images / cached, whole / cached


def _epochs(given: argparse.Namespace) -> Sequence[Callable[[], object]]:
    """One function per way, each an epoch."""
    backbone = create_backbone(
        BackboneSettings(
            name="vit_small_patch16_dinov3", weights="random", precision=given.precision
        ),
        input_size=SIZE,
        device=given.device,
    )
    rng = np.random.default_rng(0)
    stimuli = stimuli_from_array(
        rng.integers(0, 256, (given.images, *SIZE), dtype=np.uint8), source="random images"
    )
    preprocess = Preprocessing(
        crop=(0, SIZE[1]), input_size=SIZE, mean=backbone.mean, std=backbone.std
    )

    def prepared(ids: NDArray[np.int64]) -> torch.Tensor:
        return preprocess(stimuli.read(ids), device=given.device)

    tokens = []
    for ids in np.array_split(stimuli.ids, max(1, given.images // 64)):
        kinds = backbone.tokens(prepared(ids))[BLOCK - LAST]
        parts = [kinds["cls"][:, None], kinds["registers"], kinds["patches"].flatten(1, 2)]
        tokens.append(torch.cat(parts, dim=1).half().cpu())
    rows = RowsInMemory(torch.cat(tokens))

    def cached(ids: NDArray[np.int64]) -> torch.Tensor:
        return rows.take(np.searchsorted(stimuli.ids, ids)).to(given.device)

    last = {"block": BLOCK, "last": LAST}
    models: list[tuple[ReadoutNetwork, Inputs]] = [
        (TunedViT(backbone, _readout(given.neurons), start="cache", **last), cached),
        (TunedViT(backbone, _readout(given.neurons), start="images", **last), prepared),
        (AllBlocks(backbone, _readout(given.neurons)), prepared),
    ]
    counts = {sum(p.numel() for p in m.parameters() if p.requires_grad) for m, _ in models}
    assert len(counts) == 1, "all three train the same parameters"
    return [_epoch(model.to(given.device), inputs, given) for model, inputs in models]


def _epoch(
    model: ReadoutNetwork, inputs: Inputs, given: argparse.Namespace
) -> Callable[[], object]:
    rng = np.random.default_rng(1)
    # Two images more than are trained on: a recording needs validation and test.
    trials = np.r_[np.arange(given.images), 0]
    responses = rng.gamma(1.0, 1.0, (len(trials), given.neurons)).astype(np.float32)
    network = RecordedNetwork(
        model,
        inputs,
        Recording(
            name="random",
            neurons=np.arange(given.neurons),
            image_ids=trials,
            responses=responses,
            validation=np.arange(len(trials)) == given.images,
            test_image_ids=trials[:1],
            test_responses=responses[None, :2],
        ),
        scale=np.ones(given.neurons, dtype=np.float32),
        pass_size=BATCH,
        penalty=Penalty(
            factor=torch.full((given.neurons,), 1e-3, device=given.device), of="product"
        ),
    )
    trained = [p for p in model.parameters() if p.requires_grad]
    phase = Phase(epochs=1, optimizer=lambda: torch.optim.AdamW(trained, lr=1e-5))
    loop = LoopSettings(
        batch_size=BATCH, patience=1, start_counts=False, clip_norm=1.0, what="bench", remedy=""
    )
    descent = Descent(network, [phase], loop)
    descent.begin(None)
    return lambda: list(descent._steps(0))


def _readout(n_neurons: int) -> Readout:
    rng = torch.Generator().manual_seed(0)
    return Readout(
        row_weights=torch.rand(n_neurons, GRID[0], generator=rng),
        column_weights=torch.rand(n_neurons, GRID[1], generator=rng),
        channel_weights=0.01 * torch.randn(n_neurons, 384, generator=rng),
        bias=torch.zeros(n_neurons),
    )


def _means(ways: Sequence[Callable[[], object]], rounds: int, device: str) -> list[float]:
    """Mean seconds of each way; they take turns, so that all see the same machine."""
    totals = [0.0] * len(ways)
    for number in range(rounds + 1):
        for way, run in enumerate(ways):
            started = time.perf_counter()
            run()
            if device != "cpu":
                torch.cuda.synchronize()
            if number:  # the first warms up
                totals[way] += time.perf_counter() - started
    return [total / rounds for total in totals]


if __name__ == "__main__":
    main()
