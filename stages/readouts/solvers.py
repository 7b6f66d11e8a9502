"""Fitting readouts with one of the solvers, each by the name that experiments use."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from cache import UserError
from stages.readouts.adamw_solver import AdamW
from stages.readouts.als.solver import ALS
from stages.readouts.solver_protocol import Solver
from stages.training.epoch import Epoch

if TYPE_CHECKING:
    import torch
    from numpy.typing import ArrayLike

    from stages.readouts.data import AnyTokens
    from stages.readouts.readout import Readouts

#: Solvers by name. One of your own is registered by `SOLVERS["mine"] = Mine()`.
SOLVERS: dict[str, Solver] = {"als": ALS(), "adamw": AdamW()}


def fit_readouts(
    x_train: AnyTokens,
    r_train: ArrayLike,
    x_val: AnyTokens | None = None,
    r_val: ArrayLike | None = None,
    *,
    solver: str = "als",
    seed: int = 0,
    neurons: ArrayLike | None = None,
    settings: Any = None,
    device: torch.device | str = "cpu",
    memory_limit: int | None = None,
    overwrite: bool = False,
    progress: Callable[[Epoch], None] | None = None,
) -> Readouts:
    """Fit one readout per neuron on tokens, wherever the tokens come from.

    On a CPU it has the caller's threads, and rounds sums by their number; inside
    `stages.executors.cpu_threads(1)` it has one, as fits of `vitv1 fit` have.

    Parameters
    ----------
    x_train, x_val : array of shape (n_images, n_rows, n_columns, n_channels)
        Tokens of the training and validation trials; CLS tokens may be (n_images, n_channels).
        Anything that `cache.as_array` takes: lists, arrays of pandas, xarray, dask, zarr or torch.
        Or objects that read them part by part, see `stages.tokens.tokens.Tokens`. Without x_val and
        r_val a tenth of the training trials is for validation, drawn with the seed: pass them where
        images are repeated.
    r_train, r_val : array of shape (n_images, n_neurons)
        Responses, likewise, in any unit; each neuron is divided by its standard deviation over
        training, see `stages.spread.response_scale`. NaN where missing: each neuron has its own
        trials. Negative ones only for `ALSSettings(output="linear")`.
    solver : str
        One of `SOLVERS`.
    seed : int
        Decides initial weights and the order of images, where a solver draws any.
    neurons : array of shape (n_neurons,), optional
        Identity of each neuron, its position in the recording by default 0, 1, ...; with the seed
        it decides a neuron's initial weights, whichever others are fitted beside it.
    settings : solver's settings, optional
        Such as `stages.readouts.ALSSettings`; its defaults where absent.
    memory_limit : int, optional
        Bytes that the process may use; changes no result. "adamw" holds what it is given.
    overwrite : bool
        Whether r_train and r_val may be normalised in place, which saves a copy of float32 ones.
    progress : callable, optional
        Called after every epoch or step.

    Returns
    -------
    Readouts
        `.predict(x)` gives rates in units of r.

    Raises
    ------
    UserError
        Shapes that disagree, responses that are infinite or negative, tokens that are not finite,
        masks and other things that are no numbers, an unknown solver, a memory limit that cannot be
        kept.
    """
    if solver not in SOLVERS:
        raise UserError(
            f'readout.solver = "{solver}" is unknown: choose one of {", ".join(SOLVERS)}'
        )
    from stages.readouts.data import fit_data
    from stages.training.torch_state import own_torch_state

    if x_val is None and r_val is None:
        from stages.readouts.estimators.held_out import held_out

        x_train, r_train, x_val, r_val = held_out(x_train, r_train, seed=seed)
    if x_val is None or r_val is None:
        raise UserError("fit_readouts: pass both x_val and r_val, or neither")
    chosen = SOLVERS[solver]
    settings = chosen.settings() if settings is None else settings
    with own_torch_state():
        data, scale = fit_data(
            x_train,
            r_train,
            x_val,
            r_val,
            seed=seed,
            neurons=neurons,
            device=device,
            memory_limit=memory_limit,
            overwrite=overwrite,
            floor=chosen.floor,
            rates=chosen.gives_rates(settings),
        )
        fitted = chosen.fit(data, settings, progress=progress)
    return fitted.scaled(scale)
