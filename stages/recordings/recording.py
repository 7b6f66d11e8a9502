"""One recording in memory: the image of each trial, and the response of every neuron to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cache import UserError, as_array, whole_number, whole_numbers
from stages.spread import Spread, extremes, first_five, spread_of, without_rounding

if TYPE_CHECKING:
    from stages.recordings.array_settings import SplitSettings
    from stages.stimuli.stimuli import Stimuli


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Responses of one population to single-trial and to repeated images, as recorded.

    Parameters
    ----------
    name : str
        What results call this recording.
    neurons : array of shape (n_neurons,)
        0-based position of each neuron in the recording's file.
    image_ids : array of shape (n_trials,)
        Image id of every training and validation trial.
    responses : array of shape (n_trials, n_neurons)
        float32, not normalised; NaN where a neuron was not recorded.
    validation : array of shape (n_trials,)
        True for the trials that belong to validation, False for training.
    test_image_ids : array of shape (n_test,)
        Image id of every repeated test image.
    test_responses : array of shape (n_test, n_repeats, n_neurons)
        float32, NaN where an image had fewer repeats, or a neuron was not recorded.
    unit_ids, x, y : array of shape (n_neurons,), optional
        The laboratory's own unit numbers and cortical positions (micrometres), where the file
        has them.
    columns : mapping
        Further properties of the neurons by name, arrays of shape (n_neurons,).
    images : Stimuli, optional
        The images, where they came with the responses; part of no key.
    remarks : sequence of str
        What a reader of results must know of the trials; part of no key.
    """

    name: str
    neurons: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    responses: NDArray[np.float32]
    validation: NDArray[np.bool_]
    test_image_ids: NDArray[np.int64]
    test_responses: NDArray[np.float32]
    unit_ids: NDArray[np.int64] | None = None
    x: NDArray[np.float64] | None = None
    y: NDArray[np.float64] | None = None
    columns: Mapping[str, NDArray[Any]] = field(default_factory=dict, compare=False)
    images: Stimuli | None = field(default=None, compare=False, repr=False)
    remarks: tuple[str, ...] = field(default=(), compare=False)

    @classmethod
    def from_arrays(
        cls,
        responses: ArrayLike,
        image: ArrayLike | None = None,
        images: ArrayLike | None = None,
        tier: ArrayLike | None = None,
        split: SplitSettings | Mapping[str, Any] | None = None,
        unit_id: ArrayLike | None = None,
        columns: Mapping[Any, Any] | None = None,
        *,
        name: str = "recording",
        image_id: ArrayLike | None = None,
        n_images: int | None = None,
        x: ArrayLike | None = None,
        y: ArrayLike | None = None,
    ) -> Recording:
        """A recording of arrays in memory, of all kinds that `cache.as_array` takes.

        Parameters
        ----------
        responses : array of shape (n_trials, n_neurons) or (n_images, n_repeats, n_neurons)
            NaN where one is missing.
        image : array of shape (n_trials,), optional
            Position in `images`, or id, of each trial's image; may lack for images x repeats.
        images : array of shape (n_images, row, column[, channel]), optional
            The images themselves. Without them, `n_images` may tell their number.
        tier : array of shape (n_trials,) or (n_images,), optional
            "train", "validation" or "test"; trials of other tiers are left out.
        split : SplitSettings or mapping, optional
            The split by images where there is no tier, such as {"test": 0.2, "seed": 1}.
        unit_id, x, y : array of shape (n_neurons,), optional
            The laboratory's own numbers or names, and positions.
        columns : mapping or data frame, optional
            Further properties of the neurons by name, each of shape (n_neurons,).
        image_id : array of shape (n_images,), optional
            Numbers or texts; by default an image's position.

        `UserError` refuses arrays that do not belong together, as `check_recording` does others.
        """
        from stages.recordings.arrays.trials import recording_fields

        fields = recording_fields(
            name,
            responses,
            image,
            images=images,
            n_images=n_images,
            image_id=image_id,
            tier=tier,
            split=split,
            columns=columns,
            unit_id=unit_id,
            x=x,
            y=y,
        )
        return check_recording(cls(**fields))

    def save(self, path: Path | str) -> None:
        """Write a new `.npz` or `.zarr` that `format = "arrays"` reads."""
        from stages.recordings.arrays.save import save_recording

        save_recording(self, Path(path))

    @property
    def n_neurons(self) -> int:
        """How many neurons there are."""
        return len(self.neurons)

    @property
    def optional(self) -> dict[str, Any]:
        """Unit numbers and positions by field, as far as there are any."""
        each = {"unit_ids": self.unit_ids, "x": self.x, "y": self.y}
        return {key: values for key, values in each.items() if values is not None}

    @property
    def all_image_ids(self) -> NDArray[np.int64]:
        """Ids of all images this recording needs, increasing, each once."""
        return np.union1d(self.image_ids, self.test_image_ids)

    @cached_property
    def spread(self) -> Spread:
        """Mean and deviation of each neuron's responses over the training trials."""
        return spread_of(self.responses, ~self.validation)

    @cached_property
    def incomplete(self) -> bool:
        """Whether neurons with training responses miss some of the single-trial ones."""
        return bool(np.isnan(self.responses[:, np.isfinite(self.spread.mean)]).any())

    @cached_property
    def negative(self) -> NDArray[np.int64]:
        """Those of `neurons` with negative responses, single-trial or repeated ones."""
        lowest, _ = extremes(self.responses, self.test_responses)
        return self.neurons[lowest < 0]

    def select_neurons(self, first: int, last: int) -> Recording:
        """The neurons at positions first <= neuron < last.

        Raises
        ------
        UserError
            An empty range, or one beyond the recording's neurons.
        """
        first, last = (whole_number(n, f"neurons of {self.name}") for n in (first, last))
        if not 0 <= first < last <= self.n_neurons:
            raise UserError(
                f"recording.neurons = [{first}, {last}] of {self.name}: it has {self.n_neurons} "
                f"neurons, choose 0 <= first < last <= {self.n_neurons}"
            )
        return self.take_neurons(slice(first, last))

    def take_neurons(self, part: slice | NDArray[np.int64]) -> Recording:
        """The neurons at some positions, which are all there, in that order."""
        return replace(
            self,
            neurons=self.neurons[part],
            responses=self.responses[:, part],
            test_responses=self.test_responses[:, :, part],
            columns={key: values[part] for key, values in self.columns.items()},
            **{key: values[part] for key, values in self.optional.items()},
        )


def check_recording(recording: Recording, *, repeated: bool = True) -> Recording:
    """Refuse a recording whose parts disagree, or whose responses are no numbers.

    NaN says that a response is missing: each neuron is fitted to, and scored on, trials of its own.
    Spike inference leaves zeros that came out as -1e-9 or so: where a neuron's lowest response is
    negative and within 1e-6 of its largest, its negative ones become 0. Other negative responses
    are kept: fluorescence has them, and `RecordingSizes.require_rates` refuses them where rates are
    to be fitted. Returns the recording, so that a reader can end with it: with the arrays that
    `Recording` names, made from anything that `cache.as_array` takes. With `repeated` a test image
    must have been shown twice: otherwise there is no FEVE.

    Raises
    ------
    UserError
        Wrong shapes; masks and fractions in place of numbers and ids; no training, validation or
        test trials, or none with a response; infinite responses; no test image with two repeats.
        The message names the recording and the remedy.
    """
    recording, name = _as_named(recording), recording.name
    n_neurons, n_trials = recording.n_neurons, len(recording.image_ids)
    n_test = len(recording.test_image_ids)
    if recording.responses.shape != (n_trials, n_neurons):
        raise UserError(
            f"recording {name}: responses have shape {recording.responses.shape}, but there are "
            f"{n_trials} trials and {n_neurons} neurons: check the file"
        )
    shape = recording.test_responses.shape
    if len(shape) != 3 or shape[::2] != (n_test, n_neurons):
        raise UserError(
            f"recording {name}: test responses have shape {shape}, "
            f"expected ({n_test} images, repeats, {n_neurons} neurons): check the file"
        )
    for key, values in recording.optional.items():
        if values.shape != (n_neurons,):
            raise UserError(
                f"recording {name}: {key} has shape {values.shape}, but there are {n_neurons} "
                "neurons: check the file"
            )
    if n_neurons == 0:
        raise UserError(f"recording {name} has no neurons: check the file")
    if recording.validation.shape != (n_trials,):
        raise UserError(
            f"recording {name}: validation has shape {recording.validation.shape}, but there are "
            f"{n_trials} trials: one entry per trial is needed"
        )
    require_tiers(recording)
    repeats = np.isfinite(recording.test_responses).any(axis=2).sum(axis=1)
    if n_test == 0 or (repeated and repeats.max() < 2):
        raise UserError(
            f"recording {name}: no test image was shown twice ({n_test} test images), so the noise "
            "and FEVE cannot be estimated: use a recording with repeated test images"
        )
    single, test = recording.responses, recording.test_responses
    for kind, responses in (("single-trial", single), ("test", test)):
        infinite = np.isinf(extremes(responses)).any(axis=0)
        if infinite.any():
            raise UserError(
                f"recording {name}: {infinite.sum()} of {n_neurons} neurons have infinite {kind} "
                f"responses ({first_five(recording.neurons[infinite])}): correct them in the file; "
                "a missing response is NaN"
            )
    for tier, trials in (("training", ~recording.validation), ("validation", recording.validation)):
        if np.isnan(recording.responses[trials]).all():
            raise UserError(
                f"recording {name}: all responses of the {tier} trials are missing: check the file"
            )
    ends = extremes(single, test)
    settled = [without_rounding(responses, *ends) for responses in (single, test)]
    if settled[0] is single and settled[1] is test:
        return recording
    return replace(recording, responses=settled[0], test_responses=settled[1])


def require_tiers(recording: Recording) -> None:
    """Refuse with `UserError` a recording without training or without validation trials."""
    name, n_trials = recording.name, len(recording.image_ids)
    n_validation = int(recording.validation.sum())
    if n_validation == 0 or n_validation == n_trials:
        raise UserError(
            f"recording {name}: {n_trials - n_validation} training and {n_validation} validation "
            "trials; both are needed: check the recording's tiers"
        )


def _as_named(recording: Recording) -> Recording:
    """The recording with arrays of the kinds that its fields name; itself where it has them."""
    name = f"recording {recording.name}"
    kept: dict[str, Any] = {
        key: whole_numbers(values, f"{name}: {key}")
        for key in ("neurons", "image_ids", "test_image_ids", "unit_ids")
        if (values := getattr(recording, key)) is not None or key != "unit_ids"
    }
    axes = {
        "responses": ("trial", "neuron"),
        "test_responses": ("image", "repeat", "neuron"),
        "x": ("neuron",),
        "y": ("neuron",),
    }
    for key, named in axes.items():
        single = key.endswith("responses")
        if (values := getattr(recording, key)) is not None or single:
            array = as_array(values, f"{name}: values of {key}", named, missing=single)
            kept[key] = array.astype(np.float32 if single else np.float64, copy=False)
    kept["validation"] = np.asarray(recording.validation)
    if kept["validation"].dtype != np.bool_ or np.ma.is_masked(recording.validation):
        raise UserError(f"{name}: validation must say True or False for every trial")
    changed = {key: values for key, values in kept.items() if values is not getattr(recording, key)}
    return replace(recording, **changed) if changed else recording
