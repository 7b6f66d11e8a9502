"""A saved condition as one model: from raw images to rates in the recording's units."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache import UserError, as_array
from stages.readouts.load import as_saved, find_saved
from stages.readouts.manifest import READOUTS, refuse, saved_damage
from stages.readouts.saved import saved_columns
from stages.registry import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from stages.networks.from_pixels import FromPixels
    from stages.readouts.load import SavedReadouts

#: Images per pass at most.
IMAGES_AT_A_TIME = 64


@dataclass(frozen=True, kw_only=True)
class Model:
    """A network with its readouts and its preprocessing.

    Parameters
    ----------
    readouts : SavedReadouts
        With their `condition`.
    neurons : array of shape (n_neurons,)
        Position of each neuron in the recording, in the order of the rates.
    module : FromPixels
        The same as a torch module: raw images (n_images, row, column) to rates (n_images,
        n_neurons), with gradients to the pixels.
    """

    readouts: SavedReadouts
    neurons: NDArray[np.int64]
    module: FromPixels

    def predict(self, images: ArrayLike, *, progress: bool = True) -> NDArray[np.float32]:
        """Rates for raw images.

        Parameters
        ----------
        images : array of shape (n_images, row, column)
            Grey images as the recording's own are stored: neither cropped nor resized, and in the
            same range where the network is a CNN. Anything that `cache.as_array` takes.
        progress : bool
            A bar on stderr, where that is a terminal.

        Returns
        -------
        array of shape (n_images, n_neurons)
            In the units of the recording's responses.

        Raises
        ------
        UserError
            Images of another size than the recording's, pixels that are not finite, or what are no
            images.
        """
        import torch

        from stages.readouts.readout import predicted_at_once
        from stages.training.torch_state import own_torch_state

        raw = as_array(images, "images", ("image", "row", "column"))
        rows, columns, _ = self.readouts.grid
        step = min(IMAGES_AT_A_TIME, predicted_at_once(rows, columns, len(self.neurons)))
        device, rates = self.module.scale.device, []
        with _bar(len(raw), shown=progress) as done, own_torch_state(), torch.inference_mode():
            for first in range(0, len(raw), step):
                part = np.array(raw[first : first + step])
                if not np.isfinite(part).all():
                    broken = first + int(np.argmin(np.isfinite(part).all(axis=(1, 2))))
                    raise UserError(f"image {broken} has pixels that are not finite: mend it")
                rates.append(self.module(torch.from_numpy(part).to(device)).cpu().numpy())
                done(len(part))
        none = np.empty((0, len(self.neurons)), dtype=np.float32)
        return np.concatenate([none, *rates])


def load_model(
    run_dir: Path | str,
    *,
    weights: Path | str | None = None,
    device: str = "cpu",
    **identity: Any,
) -> Model:
    """The network, the preprocessing and the readouts of one saved condition.

    Parameters
    ----------
    run_dir : path
        A run's output folder.
    weights : path, optional
        File of the backbone's weights, where it lies elsewhere than when the readouts were fitted.
    device : str
        Where the model computes, such as "cuda".
    **identity
        As many of the identity columns (recording, model, input_size, tuning, protocol, tokens,
        block, blocks, solver, seed) as single out one condition.

    Returns
    -------
    Model
        `.predict(images)` gives rates; `.module` is a differentiable torch module.

    Raises
    ------
    UserError
        No saved condition there, none or several that fit, an unknown column, a file that changed
        since it was written, weights that are not at hand or are others, or a condition of an
        earlier version.
    """
    run = Path(run_dir)
    condition, saved = find_saved(run, identity, who="load_model")
    refuse(run, saved_damage(run, condition))
    record: dict[str, Any] = saved.get("network") or {}
    stage = next((stage for stage in STAGES if stage.name == record.get("stage")), None)
    if stage is None:
        raise UserError(
            f"{run}: an earlier version of vitv1 made {condition.slug} and did not record what its "
            f"network saw: delete {READOUTS}/{condition.slug} and run vitv1 again"
        )
    readouts = as_saved(run, condition, saved)
    named = None if weights is None else str(weights)
    module = stage.network(run, readouts, saved, weights=named, device=device)
    shape = record.get("image_shape")
    module.image_shape = None if shape is None else (shape[0], shape[1])
    return Model(
        readouts=readouts,
        neurons=saved_columns(run, condition)["neuron"],
        module=module.to(device),
    )


@contextmanager
def _bar(total: int, *, shown: bool) -> Iterator[Callable[[int], None]]:
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not (shown and console.is_terminal)) as bar:
        task = bar.add_task("predicting", total=total)
        yield lambda n_images: bar.advance(task, n_images)
