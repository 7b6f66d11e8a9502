"""The readout with the methods that scikit-learn's estimators have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache import UserError
from stages.readouts.solvers import fit_readouts

try:
    from sklearn.base import BaseEstimator, RegressorMixin
    from sklearn.utils.validation import check_array, check_is_fitted, validate_data
except ImportError:
    raise UserError(
        "FactorisedReadout needs scikit-learn: pip install scikit-learn, or use fit_readouts"
    ) from None

if TYPE_CHECKING:
    from stages.readouts.readout import Readouts


class FactorisedReadout(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """One readout per neuron, see `stages.readouts.fit_readouts`, as a regressor of scikit-learn.

    A tenth of what it is fitted to is for validation, drawn with the seed.

    Parameters
    ----------
    solver : str
        One of `stages.readouts.SOLVERS`.
    settings : solver's settings, optional
        Such as `stages.readouts.ALSSettings`.
    seed : int
        Decides the validation part, and what the solver draws.

    Attributes
    ----------
    readouts_ : Readouts
        What was fitted: weights, bias, `save`.
    """

    def __init__(self, solver: str = "als", settings: Any = None, seed: int = 0) -> None:
        self.solver = solver
        self.settings = settings
        self.seed = seed

    def fit(self, X: ArrayLike, y: ArrayLike) -> FactorisedReadout:
        """Fit.

        Parameters
        ----------
        X : array of shape (n_images, n_rows, n_columns, n_channels) or (n_images, n_channels)
            Tokens.
        y : array of shape (n_images, n_neurons) or (n_images,)
            Responses >= 0.

        Raises
        ------
        ValueError
            What scikit-learn's estimators refuse.
        UserError
            What `fit_readouts` refuses.
        """
        tokens, responses = validate_data(
            self, X, y, multi_output=True, allow_nd=True, y_numeric=True, ensure_min_samples=2
        )
        self._one_neuron = responses.ndim == 1
        self.readouts_: Readouts = fit_readouts(
            tokens,
            responses.reshape(len(responses), -1),
            solver=self.solver,
            settings=self.settings,
            seed=self.seed,
        )
        return self

    def predict(self, X: ArrayLike) -> NDArray[np.float32]:
        """Rates in units of y, of its shape."""
        check_is_fitted(self)
        tokens = validate_data(self, X, reset=False, allow_nd=True)
        rates = self.readouts_.predict(tokens)
        return rates[:, 0] if self._one_neuron else rates

    def score(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Mean R2 of single responses; mean FEVE of repeats, y (n_images, n_repeats, n_neurons)."""
        if np.ndim(y) == 3:
            check_is_fitted(self)
            tokens = validate_data(self, X, reset=False, allow_nd=True)
            repeats = check_array(y, allow_nd=True, ensure_all_finite="allow-nan")
            return self.readouts_.score(tokens, repeats)
        return float(super().score(X, y, sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = True
        # Of data without spatial structure and with few samples, as scikit-learn's checks have.
        tags.regressor_tags.poor_score = True
        return tags
