"""Alternating solves of the default solver, against the products and small systems in them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from unittest import mock

import torch

from benchmarks.readout_problems import Features
from stages.readouts import fit_readouts
from stages.readouts.als import alternating
from stages.readouts.als.alternating import AlternatingLeastSquares


def compare_products(features: Features, rate: float, row: Callable[[str, str, str], None]) -> None:
    """Time of all alternating solves against what is in them: products, counted, and LAPACK's."""
    operations = 0.0
    inside = False
    seconds: Counter[str] = Counter()
    solved = AlternatingLeastSquares.solve

    def counted(name: str) -> Callable[..., object]:
        method = getattr(AlternatingLeastSquares, name)

        def counting(self: AlternatingLeastSquares, cross: torch.Tensor, *rest: object) -> object:
            nonlocal operations
            # One contraction of the pair statistics, with space or with channels.
            operations += 2 * len(cross) * self.gram.numel() * inside
            return method(self, cross, *rest)

        return counting

    def timed(name: str, function: Callable[..., object]) -> Callable[..., object]:
        def timing(*given: object, **options: object) -> object:
            started = time.perf_counter()
            result = function(*given, **options)
            seconds[name] += (time.perf_counter() - started) * inside
            return result

        return timing

    def solve(self: AlternatingLeastSquares, *rest: object) -> object:
        nonlocal inside
        started, inside = time.perf_counter(), True
        result = solved(self, *rest)  # type: ignore[arg-type]
        inside = False
        seconds["all"] += time.perf_counter() - started
        return result

    patched = {"normal": counted("normal"), "space": counted("space"), "solve": solve}
    nonnegative = timed("solved", alternating.nonnegative_least_squares)
    with (
        mock.patch.multiple(AlternatingLeastSquares, **patched),
        mock.patch.object(alternating.Normal, "solve", timed("solved", alternating.Normal.solve)),
        mock.patch.object(alternating, "nonnegative_least_squares", nonnegative),
    ):
        fit_readouts(features.x_train, features.r_train, features.x_val, features.r_val)
    least = operations / rate
    row(
        f"solves / products, {features.r_train.shape[1]} neurons",
        f"{seconds['all']:.2f} s / {least:.2f} s ({operations / 1e9:.0f} Gflop) = "
        f"{seconds['all'] / least:.1f}",
        f"<= 2; {seconds['all'] / (least + seconds['solved']):.1f} of products and small systems "
        f"({seconds['solved']:.2f} s)",
    )
