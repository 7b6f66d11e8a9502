"""A recording's fields out of arrays: images, trials and neurons are matched and checked here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cache import UserError, as_array, whole_numbers
from stages.feve import pad_repeats
from stages.recordings.array_settings import SplitSettings
from stages.recordings.containers.images import held_stimuli
from stages.recordings.guards.limit import NUMBER, check_size
from stages.recordings.split import split_by_image, tiers_of_file


def recording_fields(
    name: str,
    responses: Any,
    image: Any,
    *,
    images: Any = None,
    n_images: int | None = None,
    image_id: Any = None,
    tier: Any = None,
    split: SplitSettings | Mapping[str, Any] | None = None,
    columns: Mapping[Any, Any] | None = None,
    **neurons: Any,
) -> dict[str, Any]:
    """The fields of a `Recording`, of arrays as `Recording.from_arrays` takes them.

    Parameters
    ----------
    n_images : int, optional
        How many images there are, where they are not given and that is known.
    **neurons
        unit_id, x and y, where there are any.

    Raises
    ------
    UserError
        Arrays that do not belong together, ids that there are not, too few images for the tiers.
    """
    recorded = as_array(
        responses,
        f"recording {name}: responses",
        ("trial", "neuron"),
        ("image", "repeat", "neuron"),
        missing=True,
    )
    if recorded.ndim == 3:
        recorded, image, tier = _flattened(name, recorded, image, tier)
    held = None
    if images is not None:
        numbered = image_id is not None and texts_of(image_id) is None
        ids = whole_numbers(image_id, f"recording {name}: image_id") if numbered else None
        held = held_stimuli(name, images, ids)
        n_images = len(held)
    if image is None:
        raise UserError(
            f"recording {name} has no array `image`: say which image each of the "
            f"{len(recorded)} trials showed, or give responses as (image, repeat, neuron)"
        )
    ids = None if image_id is None else _known_ids(name, image_id, n_images)
    shown = _shown(name, image, ids, n_images)
    if len(recorded) != len(shown):
        turned = recorded.shape[1] == len(shown)
        advice = (
            "they are (neuron, trial), and (trial, neuron) is expected: transpose them"
            if turned
            else "one row of responses per trial is needed"
        )
        raise UserError(
            f"recording {name}: responses have shape {recorded.shape}, but image names "
            f"{len(shown)} trials: {advice}"
        )
    tiers, remark = _tiers(name, tier, shown, ids, n_images, _split_settings(name, split))
    single, test = np.flatnonzero(np.isin(tiers, ("train", "validation"))), tiers == "test"
    test_ids, n_neurons = np.unique(shown[test]), recorded.shape[1]
    if len(test_ids) < 2:
        raise UserError(
            f"recording {name}: one test image ({test_ids[0]}), and the variance over images that "
            "FEVE explains needs two at least: give more trials the tier test"
        )
    longest = int(np.unique(shown[test], return_counts=True)[1].max())
    check_size(len(test_ids) * longest * n_neurons * NUMBER, f"repeats of recording {name}")
    repeats = [recorded[test & (shown == each)] for each in test_ids]
    return {
        "name": name,
        "neurons": np.arange(n_neurons, dtype=np.int64),
        "image_ids": shown[single],
        "responses": np.ascontiguousarray(recorded[single], dtype=np.float32),
        "validation": tiers[single] == "validation",
        "test_image_ids": test_ids,
        "test_responses": pad_repeats(repeats, n_neurons, dtype=np.float32),
        "images": held,
        "remarks": () if remark is None else (remark,),
        **_of_neurons(name, n_neurons, columns or {}, neurons),
    }


def _split_settings(name: str, split: SplitSettings | Mapping[str, Any] | None) -> SplitSettings:
    if isinstance(split, SplitSettings):
        return split
    try:
        return SplitSettings(**(split or {}))
    except ValidationError as error:
        fault = error.errors()[0]
        raise UserError(
            f"recording {name}: split.{'.'.join(map(str, fault['loc']))} = {fault['input']!r}: "
            f"{fault['msg']}"
        ) from None


def _flattened(
    name: str, recorded: NDArray[Any], image: Any, tier: Any
) -> tuple[NDArray[Any], NDArray[Any], Any]:
    """Responses (n_images, n_repeats, n_neurons) as trials; repeats that are all NaN are none."""
    n_images, n_repeats, n_neurons = recorded.shape
    image = np.arange(n_images) if image is None else np.asarray(image)
    if image.shape != (n_images,):
        raise UserError(
            f"recording {name}: responses have shape {recorded.shape} (image, repeat, neuron), but "
            f"image has shape {image.shape}: name each of the {n_images} images once, or leave "
            "image out"
        )
    rows = np.repeat(np.arange(n_images), n_repeats)
    trials = recorded.reshape(-1, n_neurons)
    there = ~np.isnan(trials).all(axis=1)
    if tier is not None and np.shape(tier) == (n_images,):
        tier = np.asarray(tier)[rows][there]
    return trials[there], image[rows][there], tier


def _known_ids(name: str, image_id: Any, n_images: int | None) -> NDArray[Any]:
    """Ids of all images, whole numbers or texts."""
    what = f"recording {name}: image_id"
    texts = texts_of(image_id)
    ids: NDArray[Any] = whole_numbers(image_id, what) if texts is None else texts
    if ids.ndim != 1 or (n_images is not None and len(ids) != n_images):
        raise UserError(
            f"{what} has shape {ids.shape}, but there are {n_images} images: one id of each is "
            "needed"
        )
    values, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        raise UserError(f"{what} names {values[counts > 1][0]} twice: give every image its own id")
    return ids


def _shown(
    name: str, image: Any, ids: NDArray[Any] | None, n_images: int | None
) -> NDArray[np.int64]:
    """Id of the image of every trial; ids that are texts become their positions."""
    what = f"recording {name}: image"
    texts = texts_of(image)
    if texts is None:
        shown: NDArray[Any] = whole_numbers(image, what)
    elif ids is None:
        raise UserError(
            f"{what} holds texts ({texts.flat[0] if texts.size else 'none'}), and nothing says "
            "which images they are: name the ids of the images in image_id, or number them"
        )
    else:
        shown = texts
    if shown.ndim != 1 or not len(shown):
        raise UserError(f"{what} has shape {shown.shape}: name the image of every trial")
    if ids is None:
        known = None if n_images is None else np.arange(n_images)
        outside = shown < 0 if known is None else ~np.isin(shown, known)
        there = "0 on" if n_images is None else f"0 to {n_images - 1}"
    else:
        if (ids.dtype.kind == "U") != (shown.dtype.kind == "U"):
            raise UserError(f"{what} and image_id must both hold numbers, or both texts")
        outside = ~np.isin(shown, ids)
        there = ", ".join(map(str, ids[:5])) + (", ..." if len(ids) > 5 else "")
    if outside.any():
        raise UserError(
            f"{what} names {int(outside.sum())} trials' images that there are not, the first is "
            f"{shown[outside][0]} (images are {there}): correct image, or give image_id"
        )
    if ids is not None and ids.dtype.kind == "U":
        order = np.argsort(ids)
        return np.asarray(order[np.searchsorted(ids[order], shown)], dtype=np.int64)
    return shown


def _tiers(
    name: str,
    tier: Any,
    shown: NDArray[np.int64],
    ids: NDArray[Any] | None,
    n_images: int | None,
    split: SplitSettings,
) -> tuple[NDArray[np.str_], str | None]:
    if tier is None:
        return split_by_image(name, shown, split)
    given = texts_of(tier)
    if given is None:
        raise UserError(f"recording {name}: tier must hold the texts train, validation and test")
    if n_images is not None and given.shape == (n_images,) and len(shown) != n_images:
        numbers = np.arange(n_images) if ids is None or ids.dtype.kind == "U" else ids
        order = np.argsort(numbers)
        given = given[order[np.searchsorted(numbers[order], shown)]]
    if given.shape != shown.shape:
        raise UserError(
            f"recording {name}: tier has shape {given.shape}, but there are {len(shown)} trials: "
            "one of each is needed"
        )
    return tiers_of_file(name, given, shown, split)


def _of_neurons(
    name: str, n_neurons: int, columns: Mapping[Any, Any], named: Mapping[str, Any]
) -> dict[str, Any]:
    """Unit ids, positions and further columns."""
    every = {str(key): _column(name, str(key), values) for key, values in columns.items()}
    unit_id = named.get("unit_id")
    if unit_id is not None and (texts := texts_of(unit_id)) is not None:
        every, unit_id = {"unit_name": texts, **every}, None
    each = {"unit_ids": unit_id, "x": named.get("x"), "y": named.get("y")}
    found = {key: values for key, values in each.items() if values is not None}
    for key, values in {**every, **found}.items():
        if np.shape(values) != (n_neurons,):
            raise UserError(
                f"recording {name}: {key} has shape {np.shape(values)}, but there are {n_neurons} "
                "neurons: one entry of each is needed"
            )
    return {**found, "columns": every}


def _column(name: str, key: str, values: Any) -> NDArray[Any]:
    """A column as plain numbers, truth values or texts."""
    texts = texts_of(values)
    if texts is not None:
        return texts
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise UserError(
            f"recording {name}: column {key} must hold numbers or texts, found {array.dtype}: "
            "convert or drop it"
        )
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def texts_of(values: Any) -> NDArray[np.str_] | None:
    """Values as texts, from anything numpy takes; None where they are none."""
    array = np.asarray(values)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8")
    if array.dtype.kind in "UT" or (
        array.dtype.kind == "O" and array.size and all(isinstance(v, str) for v in array.flat)
    ):
        return np.array(array.tolist(), dtype=np.str_)
    return None
