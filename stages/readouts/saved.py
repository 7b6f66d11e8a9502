"""Fitted conditions on disk: a group of `readouts.zarr` each, which the tables are made from."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cache import Places, atomic_write, naming, place_folder
from stages.conditions import Condition
from stages.readouts.manifest import (
    PREDICTIONS,
    READOUTS,
    record,
    refuse,
    saved_damage,
)
from stages.readouts.storage.columns import read_columns, stored_columns
from stages.training.epoch import Epoch

if TYPE_CHECKING:
    import zarr

    from stages.readouts.readout import Readouts

#: The `zarr.json` of both stores.
ROOT = b'{\n  "attributes": {},\n  "zarr_format": 3,\n  "node_type": "group"\n}'

#: Between the name of a store and what tells a temporary beside it from others.
_MARK = ".vitv1-"

#: Per-neuron columns of a result; unit_id, x and y only where a recording has them.
NEURON_COLUMNS = (
    "neuron",
    "unit_id",
    "x",
    "y",
    "fev",
    "feve",
    "val_varexp",
    "test_correlation",
    "n_repeats",
    "feve_se",
    "single_trial_correlation",
    "cc_norm",
    "r2_er",
    "r2_er_low",
    "r2_er_high",
)

#: Before the name of an array of the readouts that no validation trial was fitted with, where
#: others were fitted to training and validation trials together.
_UNREFITTED = "unrefitted_"

#: Arrays of a readout, and the names of their axes.
_WEIGHTS = {
    "row_weights": ("neuron", "row"),
    "column_weights": ("neuron", "column"),
    "channel_weights": ("neuron", "channel"),
    "bias": ("neuron",),
    "scale": ("neuron",),
}


@dataclass(frozen=True, kw_only=True)
class FittedCondition:
    """One condition's outcome.

    Parameters
    ----------
    condition : Condition
        Its identity.
    key : str
        Hash of everything the outcome depends on.
    readouts : Readouts
        The fitted parameters.
    columns : mapping
        Per-neuron results by the names of `NEURON_COLUMNS`, and columns of the recording's own,
        arrays of shape (n_neurons,).
    test_image_ids : array of shape (n_test,)
        Ids of the test images.
    test_predictions : array of shape (n_test, n_neurons)
        Predicted responses to them, in the recording's units.
    test_responses : array of shape (n_test, n_neurons), optional
        Responses to them, the mean over repeats.
    weights, cache_key : str, optional
        Which backbone weights and which cache the tokens came from.
    seconds : float
        Wall time of the fit.
    places : Places, optional
        Where the tokens of its grid lie in the image, if that is known.
    inputs : mapping
        Everything the outcome depends on, as `key` hashes it.
    extra : mapping
        Further attributes of the saved group, of types that JSON has.
    """

    condition: Condition
    key: str
    readouts: Readouts
    columns: Mapping[str, NDArray[Any]]
    test_image_ids: NDArray[np.int64]
    test_predictions: NDArray[np.float32]
    weights: str | None
    cache_key: str | None
    seconds: float
    places: Places | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    test_responses: NDArray[np.floating[Any]] | None = None


class SavedPredictions(NamedTuple):
    """Predicted and measured responses to the test images, of shape (n_test, n_neurons).

    Results of earlier versions have no `responses`.
    """

    images: NDArray[np.int64]
    predictions: NDArray[np.float32]
    responses: NDArray[np.float32] | None


def save_condition(run: Path, fitted: FittedCondition, products: Iterable[Path] = ()) -> None:
    """Write one condition below a run's folder, replacing an outdated one of the same identity.

    Both groups are written beside their places. Then the readouts of before go away, and the
    condition is absent until the manifest is written, which also covers the `products` (files that
    are there already).
    """
    readouts, curve = fitted.readouts, fitted.readouts.curve
    attributes = {
        **fitted.condition.identity(),
        "key": fitted.key,
        "weights": fitted.weights,
        "cache_key": fitted.cache_key,
        "seconds": round(fitted.seconds, 3),
        "inputs": dict(fitted.inputs),
        "fitted_to": "training" if readouts.unrefitted is None else "training and validation",
        "manifest": True,
        **({} if fitted.places is None else {"places": fitted.places.document()}),
        **fitted.extra,
    }
    predictions: dict[str, tuple[NDArray[Any], tuple[str, ...]]] = {
        "image": (fitted.test_image_ids, ("image",)),
        "neuron": (fitted.columns["neuron"], ("neuron",)),
        "test": (fitted.test_predictions, ("image", "neuron")),
    }
    if fitted.test_responses is not None:
        predictions["response"] = (fitted.test_responses.astype(np.float32), ("image", "neuron"))
    arrays: dict[str, tuple[NDArray[Any], tuple[str, ...]]] = {
        name: (getattr(readouts, name), dimensions) for name, dimensions in _WEIGHTS.items()
    }
    if readouts.unrefitted is not None:
        arrays |= {
            _UNREFITTED + name: (getattr(readouts.unrefitted, name), dimensions)
            for name, dimensions in _WEIGHTS.items()
        }
    if readouts.penalty is not None:
        arrays["penalty"] = (readouts.penalty, ("neuron",))
    columns, named = stored_columns(fitted.columns, NEURON_COLUMNS)
    arrays |= columns
    arrays["training_loss"] = (np.array([e.training_loss for e in curve]), ("epoch",))
    arrays["validation_score"] = (np.array([e.validation_score for e in curve]), ("epoch",))
    slug = fitted.condition.slug
    _write_group(run / PREDICTIONS, attributes, predictions)
    _write_group(run / READOUTS, attributes | named, arrays)
    if (run / READOUTS / slug).exists():
        (run / READOUTS / slug).rename(_temporary(run / READOUTS, "old"))
    for store in (PREDICTIONS, READOUTS):
        new, old = (_temporary(run / store, what) for what in ("new", "old"))
        place_folder(new, run / store / slug, aside=old)
        if old.exists():
            shutil.rmtree(old)
    record(run, slug, fitted.key, products)


def discard_leftovers(run: Path) -> None:
    """Delete temporaries of `save_condition` in a run's folder to which nobody writes."""
    for store in (READOUTS, PREDICTIONS):
        pattern = f"{Path(store).name}{_MARK}*"
        for left in (run / store).parent.glob(pattern):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)


def saved_columns(run: Path, condition: Condition) -> dict[str, NDArray[Any]]:
    """Per-neuron results of a saved condition."""
    group = _open(run, condition.slug)
    own = {name: _read(group, name) for name in NEURON_COLUMNS if name in group}
    return own | read_columns(group.attrs, lambda name: _read(group, name))


def saved_penalty(run: Path, condition: Condition) -> NDArray[np.float32] | None:
    """Each neuron's own penalty, array of shape (n_neurons,); None where its solver has none."""
    group = _open(run, condition.slug)
    return _read(group, "penalty") if "penalty" in group else None


def saved_curve(run: Path, condition: Condition) -> list[Epoch]:
    """Learning curve of a saved condition."""
    group = _open(run, condition.slug)
    pairs = zip(_read(group, "training_loss"), _read(group, "validation_score"), strict=True)
    return [Epoch(n, float(loss), float(score)) for n, (loss, score) in enumerate(pairs)]


def saved_readouts(run: Path, condition: Condition) -> Readouts:
    """Readouts of a saved condition, with those of before a fit to validation trials, too."""
    from stages.readouts.readout import Readouts

    group = _open(run, condition.slug)
    output: Any = group.attrs.get("output", "elu")

    def of(prefix: str) -> Readouts:
        weights: dict[str, Any] = {name: _read(group, prefix + name) for name in _WEIGHTS}
        return Readouts(**weights, output=output)

    if _UNREFITTED + "bias" not in group:
        return of("")
    return replace(of(""), unrefitted=of(_UNREFITTED))


def saved_predictions(run: Path, condition: Condition) -> SavedPredictions | None:
    """Predictions of a saved condition for the test images; None where there are none."""
    import zarr

    refuse(run, saved_damage(run, condition.slug))
    if not (run / PREDICTIONS / condition.slug / "zarr.json").exists():
        return None
    group = zarr.open_group(
        str(run / PREDICTIONS / condition.slug), mode="r", use_consolidated=False
    )
    responses = _read(group, "response") if "response" in group else None
    return SavedPredictions(_read(group, "image"), _read(group, "test"), responses)


def _open(run: Path, slug: str) -> zarr.Group:
    import zarr

    refuse(run, saved_damage(run, slug, readouts_alone=True))
    return zarr.open_group(str(run / READOUTS / slug), mode="r", use_consolidated=False)


def _read(group: zarr.Group, name: str) -> NDArray[Any]:
    import zarr

    array = group[name]
    assert isinstance(array, zarr.Array)
    return np.asarray(array[:])


def _write_group(
    store: Path,
    attributes: Mapping[str, Any],
    arrays: Mapping[str, tuple[NDArray[Any], tuple[str, ...]]],
) -> None:
    """Write a group beside its place."""
    import zarr

    if not (store / "zarr.json").exists():
        atomic_write(store / "zarr.json", ROOT)
    for left in (_temporary(store, what) for what in ("new", "old")):
        if left.exists():
            shutil.rmtree(left)
    with naming(_temporary(store, "new")):
        group = zarr.create_group(
            str(_temporary(store, "new")), zarr_format=3, attributes=dict(attributes)
        )
        for name, (values, dimensions) in arrays.items():
            group.create_array(
                name,
                data=np.ascontiguousarray(values),
                chunks=tuple(max(1, size) for size in values.shape),
                dimension_names=dimensions,
            )


def _temporary(store: Path, what: str) -> Path:
    """A place of this process alone beside a store."""
    return store.with_name(f"{store.name}{_MARK}{what}-{socket.gethostname()}-{os.getpid()}")
