"""A fitted condition of two neurons, made up, to be saved."""

import numpy as np

from stages.conditions import Condition
from stages.readouts.readout import Readouts
from stages.readouts.saved import FittedCondition
from stages.training.epoch import Epoch


def fitted(*, block=3, seed=0, value=1.0, key="k"):
    ones = np.full((2, 4), value, np.float32)
    return FittedCondition(
        condition=Condition(
            recording="a/b c", model="vit", input_size="64x128", tokens="patch", block=block,
            blocks=str(block), solver="adamw", seed=seed,
        ),
        key=key,
        readouts=Readouts(
            row_weights=ones, column_weights=ones, channel_weights=ones, bias=ones[:, 0],
            scale=ones[:, 0], curve=[Epoch(0, 2.0, 0.1), Epoch(1, 1.5, 0.2)],
        ),
        columns={"neuron": np.array([5, 6]), "feve": np.array([np.nan, 0.5])},
        test_image_ids=np.array([9, 8, 7]),
        test_predictions=np.zeros((3, 2), np.float32),
        weights="random",
        cache_key="c",
        seconds=1.23456,
    )  # fmt: skip
