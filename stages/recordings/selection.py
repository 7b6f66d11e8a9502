"""Neurons of a recording that its settings choose: by position, or by their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.recording import Recording

#: Keys of a table that names a range of positions.
RANGE = frozenset(("first", "last"))

#: A value that a column may have.
Value = str | bool | int | float

#: What `recording.neurons` may be, besides "all".
Choice = tuple[int, ...] | Mapping[str, Value | tuple[Value, ...]]


def number_chosen(choice: Choice) -> int | None:
    """How many neurons a choice has; None where only the file tells."""
    if isinstance(choice, Mapping):
        return int(choice["last"]) - int(choice["first"]) if set(choice) == RANGE else None  # type: ignore[arg-type]
    return choice[1] - choice[0] if len(choice) == 2 else len(choice)


def select(recording: Recording, choice: Choice) -> Recording:
    """The recording with the chosen neurons, in its own order or that of a list.

    Parameters
    ----------
    choice : tuple or mapping
        `(first, last)` is a range without its end, as {"first": 0, "last": 500} is; any other
        number of positions is a list. Other mappings choose by columns, all of which must fit: a
        value that is equal, two numbers of a range without its end, or a list of values.

    Raises
    ------
    UserError
        Neurons or columns that the recording does not have, a neuron that is named twice, or a
        choice that no neuron fits.
    """
    name = recording.name
    if isinstance(choice, Mapping):
        if set(choice) == RANGE:
            return recording.select_neurons(choice["first"], choice["last"])  # type: ignore[arg-type]
        return recording.take_neurons(_fitting(recording, choice))
    if len(choice) == 2:
        return recording.select_neurons(*choice)
    chosen = np.array(choice, dtype=np.int64)
    outside = chosen[(chosen < 0) | (chosen >= recording.n_neurons)]
    if len(outside) or len(np.unique(chosen)) < len(chosen) or not len(chosen):
        wrong = f"neuron {outside[0]} is none of them" if len(outside) else "one is named twice"
        raise UserError(
            f"recording.neurons of {name}: {wrong if len(chosen) else 'the list is empty'}; it has "
            f"neurons 0 to {recording.n_neurons - 1}, name each once"
        )
    return recording.take_neurons(chosen)


def _fitting(recording: Recording, choice: Mapping[str, Value | tuple[Value, ...]]) -> Any:
    """Positions of the neurons whose columns fit."""
    columns = {"neuron": recording.neurons, **recording.columns}
    own = {"unit_id": recording.unit_ids, "x": recording.x, "y": recording.y}
    columns |= {key: values for key, values in own.items() if values is not None}
    fits = np.ones(recording.n_neurons, dtype=bool)
    for key, wanted in choice.items():
        if key not in columns:
            raise UserError(
                f"recording.neurons of {recording.name} names {key!r}, and its neurons have "
                f"{', '.join(sorted(columns))}: choose by one of these"
            )
        fits &= _fits(columns[key], wanted, f"recording.neurons.{key} of {recording.name}")
    if not fits.any():
        raise UserError(
            f"recording.neurons of {recording.name}: none of its {recording.n_neurons} neurons "
            f"fits {dict(choice)}: correct the values"
        )
    return np.flatnonzero(fits)


def _fits(column: NDArray[Any], wanted: Value | Sequence[Value], where: str) -> NDArray[np.bool_]:
    values = wanted if isinstance(wanted, (tuple, list)) else [wanted]
    are_texts = column.dtype.kind == "U"
    if not values or any(isinstance(value, str) != are_texts for value in values):
        kind = "texts" if are_texts else "numbers"
        raise UserError(f"{where} = {wanted!r}: the column holds {kind}, name at least one")
    pair = values is wanted and len(values) == 2 and column.dtype.kind in "iuf"
    if pair:
        low, high = values
        return np.asarray((column >= low) & (column < high))
    return np.isin(column, list(values))
