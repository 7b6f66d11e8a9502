"""Protocol of solvers: settings, a fit, its needs and cost, and parts for several workers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from numpy.typing import NDArray

from stages.costs import Cost
from stages.readouts.sizes import FitSize
from stages.training.epoch import Epoch

if TYPE_CHECKING:
    import numpy as np

    from stages.executors.executor import Executor
    from stages.readouts.data import FitData
    from stages.readouts.readout import Readouts
    from stages.tokens.tokens import Tokens


OnEpoch = Callable[[Epoch], None]


class OpenTrials(NamedTuple):
    """The trials of some neurons, ready to be fitted, and tokens of the test images.

    Responses were divided by `scale`, array of shape (n_neurons,).
    """

    data: FitData
    scale: NDArray[np.float32]
    test: Tokens


class FitSource(Protocol):
    """The trials of one condition, for parts of a fit in any process: it can be pickled."""

    @property
    def size(self) -> FitSize:
        """Sizes of the fit."""

    @property
    def sources(self) -> tuple[int, ...]:
        """Channels of each source, where tokens are of several."""

    @property
    def n_training(self) -> int:
        """Training trials."""

    @property
    def device(self) -> str:
        """Where to compute."""

    @property
    def memory_limit(self) -> int | None:
        """Bytes that each process may use."""

    def training_tokens(self) -> Tokens:
        """Tokens of the training trials, streamed."""

    def validation_tokens(self) -> Tokens:
        """Tokens of the validation trials, streamed."""

    def opened(self, neurons: slice) -> AbstractContextManager[OpenTrials]:
        """All trials, with the responses of some neurons."""


class Outcome(NamedTuple):
    """What a fit ends in.

    Parameters
    ----------
    readouts : Readouts
    test_predictions : array of shape (n_test, n_neurons)
    explained : array of shape (n_neurons,)
        Variance explained on the validation trials, by readouts that were not fitted to them.
    """

    readouts: Readouts
    test_predictions: NDArray[np.float32]
    explained: NDArray[np.floating[Any]]


class DividedFit(Protocol):
    """A fit in parts that several workers compute; its numbers are those of one process.

    Attributes
    ----------
    n_parts : int
        Parts that `fit` reports.
    n_together : int
        Parts that may be computed at a time when most is to be done.
    """

    n_parts: int
    n_together: int

    def fit(self, executor: Executor, *, folder: Path, progress: Callable[[int], None]) -> Outcome:
        """Fit, and predict the test images.

        Parameters
        ----------
        folder : path
            Of this fit alone; this process and all workers can write there.
        progress : callable
            Called with the number of parts that were done since.

        Raises
        ------
        CacheError, UserError
            As a fit in one process.
        WorkersDied
            The same part lost its worker several times.
        """


class Solver(Protocol):
    """Fits readouts. A subclass has at least `settings`, `fit`, `least_memory` and `cost`.

    Everything but `fit` must work, and the module be imported, without torch: an experiment's plan
    asks the solver of every condition.

    Attributes
    ----------
    settings : type
        Frozen dataclass whose defaults are those of `fit_readouts`.
    keeps_order : bool
        Whether trials are read in the order of the recording, because batches are drawn from it;
        else they are in the order of the cache, which is read fastest.
    by_epochs : bool
        Whether the fit learns epoch by epoch, so that its learning curve tells something.
    floor : float, optional
        Least standard deviation that the solver's published protocol divides responses by, in the
        units that it was published with; see `stages.spread.response_scale`.
    """

    settings: type[Any]
    keeps_order: bool = False
    by_epochs: bool = True
    floor: float | None = None

    def fit(self, data: FitData, settings: Any, *, progress: OnEpoch | None = None) -> Readouts:
        """Fit one readout per neuron.

        Parameters
        ----------
        progress : callable, optional
            Called after every epoch or step.

        Returns
        -------
        Readouts
            With scale 1: rates in units of the normalised responses. If fitted to the validation
            trials, too, with `unrefitted` ones that are not.
        """

    def least_memory(self, size: FitSize, settings: Any, *, divided: bool = False) -> int:
        """Bytes that a fit, or a part of it, needs at least, responses included.

        What an idle process takes comes on top.
        """

    def cost(
        self,
        size: FitSize,
        settings: Any,
        *,
        divided: bool = False,
        memory_limit: int | None = None,
    ) -> Cost:
        """Time, memory and bytes read of a fit, at most.

        Parameters
        ----------
        divided : bool
            In parts, where the solver has any.
        memory_limit : int, optional
            Bytes that each worker may use.
        """

    def identity(self, settings: Any) -> dict[str, Any]:
        """What a result's key depends on, of the solver's settings."""
        return asdict(settings)

    def epochs(self, settings: Any) -> int:
        """Passes over the training trials, at most; 0 where there are none to tell."""
        return 0

    def gives_rates(self, settings: Any) -> bool:
        """Whether readouts end in ELU + 1, so that fine-tuning can start from them."""
        return True

    def trial_penalty(self, settings: Any) -> float | None:
        """What a neuron's squared weights cost per trial, in units of the Poisson loss.

        None where each readout is saved with a penalty of its own.
        """
        return None

    def groups(self, n_neurons: int) -> Sequence[slice]:
        """The neurons whose rates are predicted together, as the parts of a divided fit do."""
        return (slice(0, n_neurons),)

    def divide(self, source: FitSource, settings: Any) -> DividedFit | None:
        """The fit in parts; None where it has none that several workers could compute."""
        return None
