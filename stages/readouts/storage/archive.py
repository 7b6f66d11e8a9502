"""Readouts of a notebook: scored, and kept in a file; those of a run are in its `readouts.zarr`."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cache import UserError, replaced
from stages.feve import VALID_FEV, fev_and_feve

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

#: Fields of readouts in a file, besides "penalty" where there is one; how the fit went is not kept.
_ARRAYS = ("row_weights", "column_weights", "channel_weights", "bias", "scale")
_TEXT = "output"


class KeptReadouts:
    """Methods of fitted readouts that a notebook wants."""

    def predict(self, tokens: Any) -> NDArray[np.float32]:
        """Rates, array of shape (n_images, n_neurons)."""
        raise NotImplementedError

    def score(self, tokens: Any, r_repeats: ArrayLike) -> float:
        """Mean FEVE over the neurons with FEV > 0.15, NaN where there are none; see `stages.feve`.

        Parameters
        ----------
        tokens : array of shape (n_images, n_rows, n_columns, n_channels)
            As for `predict`.
        r_repeats : array of shape (n_images, n_repeats, n_neurons)
            Measured responses, NaN where a repeat is missing.
        """
        fev, feve = fev_and_feve(r_repeats, self.predict(tokens))
        valid = fev > VALID_FEV
        return float(feve[valid].mean()) if valid.any() else float("nan")

    def save(self, path: Path | str) -> None:
        """Write an `.npz` that `load` reads, in one step."""
        path = Path(path)
        if path.suffix.lower() != ".npz":
            raise UserError(f"{path}: readouts are saved as .npz, name such a file")
        each = {name: getattr(self, name) for name in (*_ARRAYS, _TEXT, "penalty")}
        with replaced(path, durable=True) as file:
            np.savez(file, allow_pickle=False, **{k: v for k, v in each.items() if v is not None})

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Readouts that `save` wrote.

        Raises
        ------
        UserError
            No such file, or one that something else wrote.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                found = {name: file[name] for name in file.files}
        except FileNotFoundError:
            raise UserError(f"{path} does not exist: name a file that save(path) wrote") from None
        except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
            raise UserError(f"{path} holds no readouts ({error}): name a file of save") from None
        if set(found) - {"penalty"} != {*_ARRAYS, _TEXT}:
            held = ", ".join(found)
            raise UserError(f"{path} holds no readouts ({held}): name a file of save")
        return cls(**{k: str(v) if k == _TEXT else v for k, v in found.items()})
