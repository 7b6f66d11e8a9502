"""Sizes of a fit, and of what is predicted at a time; known without torch."""

from __future__ import annotations

from dataclasses import dataclass

#: Elements of the largest intermediate (image, row, column, neuron) while predicting.
PREDICT_ELEMENTS = 2**25

#: Validation trials whose predictions gradient descent computes at a time, at most.
VALIDATION_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class FitSize:
    """Sizes of one condition's fit, which its cost and its memory follow from.

    Parameters
    ----------
    n_trials : int
        Training and validation trials together.
    n_rows, n_columns, n_channels : int
        Of an image's tokens.
    n_neurons : int
    n_test : int
        Test images.
    item_bytes : int
        Bytes of a stored number.
    incomplete : bool
        Whether neurons miss some of the single-trial responses.
    """

    n_trials: int
    n_rows: int
    n_columns: int
    n_channels: int
    n_neurons: int
    n_test: int = 0
    item_bytes: int = 2
    incomplete: bool = False

    @property
    def places(self) -> int:
        """Tokens of an image."""
        return self.n_rows * self.n_columns

    @property
    def stored(self) -> int:
        """Bytes of all tokens that are read."""
        images = self.n_trials + self.n_test
        return images * self.places * self.n_channels * self.item_bytes

    @property
    def responses(self) -> int:
        """Bytes of one copy of all responses, in float32."""
        return 4 * self.n_trials * self.n_neurons
