"""All numbers of a result, to be compared bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.readouts.saved import FittedCondition


def numbers(fitted: FittedCondition) -> dict[str, NDArray[Any]]:
    """Every array that a condition saves, its table and its curve."""
    kinds = {"": fitted.readouts, "unrefitted_": fitted.readouts.unrefitted}
    weights = {
        prefix + name: values
        for prefix, readouts in kinds.items()
        if readouts is not None
        for name, values in vars(readouts).items()
        if isinstance(values, np.ndarray)
    }
    return {
        **{name: np.asarray(values) for name, values in fitted.columns.items()},
        **weights,
        "curve": np.array(fitted.readouts.curve, dtype=float),
        "test_predictions": fitted.test_predictions,
    }


def assert_same_bits(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> None:
    """Fail where any number differs at all; the message names what."""
    assert one.keys() == other.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, other[name], err_msg=name)
