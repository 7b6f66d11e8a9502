"""The default solver on the trials themselves: missing responses, and fine grids.

    python -m benchmarks.on_trials [--quick]

Times are CPU seconds of all threads: what counts where others keep the cores busy.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from benchmarks.readout_problems import Features, planted
from stages.feve import VALID_FEV, fev_and_feve
from stages.readouts import Readouts, fit_readouts

#: Share of the responses that are missing.
MISSING = 0.3

#: Neurons on either grid, of which the finer has 16 times as many positions.
NEURONS = 128
FINE, COARSE = (16, 32), (4, 8)

#: Bytes that the fit on the fine grid may use, its tokens included.
MEMORY_LIMIT = 8 * 10**9

Row = Callable[[str, str, str], None]


def compare_missing(features: Features, row: Row) -> None:
    """Time and FEVE with responses missing at random, against complete ones."""
    draw = np.random.default_rng(0)
    gaps = {
        name: np.where(draw.random(values.shape) < MISSING, np.float32(np.nan), values)
        for name, values in (("r_train", features.r_train), ("r_val", features.r_val))
    }
    whole, whole_feve = _timed(features)
    part, part_feve = _timed(replace(features, **gaps))
    n = features.r_train.shape[1]
    row(
        f"30 % missing / complete, {n} neurons",
        f"{part:.1f} s / {whole:.1f} s = {part / whole:.1f}",
        "<= 3",
    )
    few = [int((1 - MISSING) * len(r)) for r in (features.r_train, features.r_val)]
    _, fewer_feve = _timed(
        replace(
            features,
            x_train=features.x_train[: few[0]],
            r_train=features.r_train[: few[0]],
            x_val=features.x_val[: few[1]],
            r_val=features.r_val[: few[1]],
        )
    )
    row(
        "test FEVE: 30 % missing, as few complete trials, all",
        f"{part_feve:.4f}, {fewer_feve:.4f}, {whole_feve:.4f}",
        "the same, the same, more",
    )


def compare_grids(n_train: int, n_validation: int, n_channels: int, row: Row) -> None:
    """Time per neuron on a fine and a coarse grid."""
    seconds = []
    for grid in (COARSE, FINE):
        features = planted(
            n_neurons=NEURONS,
            n_train=n_train,
            n_validation=n_validation,
            n_channels=n_channels,
            grid=grid,
        )
        seconds.append(_timed(features, memory_limit=MEMORY_LIMIT)[0])
    row(
        f"grid 16 x 32 / 4 x 8, ms per neuron of {NEURONS}",
        f"{1e3 * seconds[1] / NEURONS:.0f} / {1e3 * seconds[0] / NEURONS:.1f} = "
        f"{seconds[1] / seconds[0]:.0f}",
        "<= 16",
    )


def _timed(features: Features, memory_limit: int | None = None) -> tuple[float, float]:
    """CPU seconds of a fit, and its mean test FEVE."""
    started = time.process_time()
    readouts: Readouts = fit_readouts(
        features.x_train,
        features.r_train,
        features.x_val,
        features.r_val,
        memory_limit=memory_limit,
    )
    seconds = time.process_time() - started
    fev, feve = fev_and_feve(features.r_test, readouts.predict(features.x_test))
    return seconds, float(feve[fev > VALID_FEV].mean())


def print_row(what: str, measured: str, target: str) -> None:
    """One line of the table."""
    print(f"| {what} | {measured} | {target} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small problems: does it run?")
    quick = parser.parse_args().quick
    n_train, n_validation, n_channels = (600, 100, 48) if quick else (4472, 522, 384)
    sizes = {"n_train": n_train, "n_validation": n_validation, "n_channels": n_channels}
    print("| what | measured, CPU time | target |\n|---|---|---|")
    compare_missing(planted(n_neurons=20 if quick else 600, **sizes), print_row)
    compare_grids(n_train, n_validation, n_channels, print_row)


if __name__ == "__main__":
    main()
