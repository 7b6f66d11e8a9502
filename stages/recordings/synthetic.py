"""Synthetic recordings: images with natural statistics, planted neurons with known readouts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.kept import keep_arrays, kept_arrays, kept_path
from stages.recordings.recording import Recording, check_recording
from stages.recordings.recording_format import RecordingFormat, RecordingSizes
from stages.recordings.synthetic_settings import FEV_SPREAD, SyntheticSettings
from stages.stimuli.stimuli import Stimuli, stimuli_from_array

if TYPE_CHECKING:
    from cache import FeatureCache
    from stages.backbones.settings import BackboneSettings
    from stages.recordings.settings import RecordingSettings

#: Standard deviation over images of what a planted readout feeds into ELU (its mean is 0): rates
#: range from near 0 to about 3, and responses with FEV 0.5 have a standard deviation near 1.
DRIVE_STD = 0.85
#: Smallest and largest standard deviation of a neuron's Gaussian rows and columns, in patches.
WIDTHS = (0.6, 1.2)

#: Raised whenever the same settings and tokens give other responses than before.
RESPONSES_VERSION = 1

# Streams of random numbers that share the settings' seed.
_IMAGES, _NEURONS = 0, 1


class SyntheticFormat(RecordingFormat):
    """Images made up here, and neurons planted in one block's patch tokens of them."""

    planted = True

    def sizes(self, settings: RecordingSettings) -> RecordingSizes:
        """Sizes, which are settings themselves."""
        planted = settings.synthetic
        return RecordingSizes.of(
            settings,
            neurons=planted.n_neurons,
            trials=planted.n_single,
            test_images=planted.n_test,
        )

    def images(self, settings: RecordingSettings) -> Stimuli:
        """The images of `synthetic_images`."""
        return synthetic_stimuli(settings.synthetic)

    def block(self, settings: RecordingSettings) -> int:
        """The block (0-based) in whose tokens the neurons are planted."""
        return settings.synthetic.block

    def plant(
        self,
        settings: RecordingSettings,
        *,
        cache: FeatureCache,
        stimuli: Stimuli,
        crop: tuple[int, int],
        backbone: BackboneSettings,
        input_size: tuple[int, int],
        keep: bool = False,
    ) -> Recording:
        """Plant all neurons in the cache's tokens, or in those of the moved backbone."""
        planted = settings.synthetic
        content = {"tokens": cache.key, "synthetic": asdict(planted), "version": RESPONSES_VERSION}
        path = kept_path(cache, "responses", content)
        kept = kept_arrays(path)
        if kept is not None:
            return _recording(planted, kept["single"], kept["test"], name=settings.name)
        if planted.perturb is None:
            tokens = cache.block(planted.block).read("patches", cache.image_ids)
        else:
            from stages.recordings.perturbed_backbone import moved_tokens

            tokens = moved_tokens(
                planted,
                cache=cache,
                stimuli=stimuli,
                crop=crop,
                backbone=backbone,
                input_size=input_size,
                keep=keep,
            )
        recording, _ = synthetic_recording(planted, tokens.astype(np.float32), name=settings.name)
        if keep:
            keep_arrays(path, single=recording.responses, test=recording.test_responses)
        return recording

    def remark(self, table: Mapping[str, Any]) -> str:
        """Where the neurons come from."""
        planted = table.get("synthetic") or {}
        block = planted.get("block", SyntheticSettings().block)
        moved = ", after the backbone's weights were moved" if planted.get("perturb") else ""
        return (
            f"The neurons of {table['name']} are synthetic: planted as readouts of the patch "
            f"tokens of block {block}{moved or ', which must come out best'}."
        )


@dataclass(frozen=True, kw_only=True)
class PlantedReadouts:
    """The readouts that made the responses.

    Parameters
    ----------
    row_weights : array of shape (n_neurons, n_rows)
        Not negative.
    column_weights : array of shape (n_neurons, n_columns)
        Not negative.
    channel_weights : array of shape (n_neurons, n_channels)
    bias : array of shape (n_neurons,)
    """

    row_weights: NDArray[np.float64]
    column_weights: NDArray[np.float64]
    channel_weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def rates(self, tokens: NDArray[np.floating]) -> NDArray[np.float64]:
        """Noiseless responses, array of shape (n_images, n_neurons).

        Parameters
        ----------
        tokens : array of shape (n_images, row, column, channel)
        """
        mixed = tokens @ self.channel_weights.T
        drive = np.einsum("iyxn,ny,nx->in", mixed, self.row_weights, self.column_weights)
        return _rate(drive + self.bias)


def synthetic_images(settings: SyntheticSettings) -> NDArray[np.uint8]:
    """Grey images whose amplitude falls as 1/frequency, with random phase.

    Returns
    -------
    array of shape (n_images, row, column)
        Each image uses the full range 0..255. Training images come first, then validation, then
        test; no two are the same.
    """
    shape = settings.image_shape
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    frequency[0, 0] = np.inf
    images = np.empty((settings.n_images, *shape), dtype=np.uint8)
    for i in range(settings.n_images):
        noise = np.random.default_rng([settings.seed, _IMAGES, i]).standard_normal(shape)
        image = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=shape)
        image -= image.min()
        images[i] = np.rint(image * (255 / image.max()))
    return images


def synthetic_stimuli(settings: SyntheticSettings) -> Stimuli:
    """The images of `synthetic_images` with ids 0..n_images-1."""
    return stimuli_from_array(
        synthetic_images(settings), source=f"the synthetic images of seed {settings.seed}"
    )


def synthetic_recording(
    settings: SyntheticSettings, tokens: NDArray[np.floating], *, name: str
) -> tuple[Recording, PlantedReadouts]:
    """Plant neurons as readouts of the given tokens and record their noisy responses.

    A neuron's rows and columns are Gaussian bumps around a random place; its channels mix the
    leading principal components of the tokens, each with the same variance. Its rate is
    ``ELU(drive) + 1``. The noise is gamma distributed with a variance proportional to the rate,
    chosen so that the neuron has its fraction of explainable variance. It is drawn by inverting
    the distribution: tokens that differ by a rounding error give responses that do so too.

    A neuron's readout and noise come from the seed and its number, not from `n_neurons`. The
    trials show every image in the order of its id; the last `n_validation` of them are validation.

    Parameters
    ----------
    settings : SyntheticSettings
        What to plant.
    tokens : array of shape (n_images, row, column, channel)
        Patch tokens of `settings.block` for the images of `synthetic_images`.
    name : str
        What results call this recording.

    Raises
    ------
    UserError
        More components than the tokens have channels.
    ValueError
        Tokens that do not belong to the images.
    """
    if tokens.ndim != 4 or len(tokens) != settings.n_images:
        raise ValueError(
            f"tokens have shape {tokens.shape}, "
            f"expected ({settings.n_images}, row, column, channel)"
        )
    if settings.n_components > tokens.shape[3]:
        raise UserError(
            f"recording {name}: n_components = {settings.n_components}, but the backbone's tokens "
            f"have {tokens.shape[3]} channels: choose at most {tokens.shape[3]}"
        )
    directions = _leading_directions(tokens, settings.n_components)
    components = tokens @ directions
    neurons = [_plant(settings, components, n) for n in range(settings.n_neurons)]
    readouts = PlantedReadouts(
        row_weights=np.array([neuron.rows for neuron in neurons]),
        column_weights=np.array([neuron.columns for neuron in neurons]),
        channel_weights=np.array([directions @ neuron.mixture for neuron in neurons]),
        bias=np.array([neuron.bias for neuron in neurons]),
    )
    single = np.stack([neuron.single for neuron in neurons], axis=-1).astype(np.float32)
    test = np.stack([neuron.repeats for neuron in neurons], axis=-1).astype(np.float32)
    return _recording(settings, single, test, name=name), readouts


def _recording(
    settings: SyntheticSettings,
    single: NDArray[np.float32],
    test: NDArray[np.float32],
    *,
    name: str,
) -> Recording:
    """A recording of responses to the images in the order of their ids."""
    n_single = settings.n_single
    recording = Recording(
        name=name,
        neurons=np.arange(settings.n_neurons),
        image_ids=np.arange(n_single),
        responses=single,
        validation=np.arange(n_single) >= settings.n_training,
        test_image_ids=np.arange(n_single, settings.n_images),
        test_responses=test,
    )
    return check_recording(recording)


@dataclass(frozen=True, kw_only=True)
class _Neuron:
    """One planted neuron: its weights, and its responses to single and repeated images."""

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    mixture: NDArray[np.float64]
    bias: float
    single: NDArray[np.float64]
    repeats: NDArray[np.float64]


def _plant(settings: SyntheticSettings, components: NDArray[np.float64], number: int) -> _Neuron:
    """Draw one neuron; components is an array of shape (n_images, row, column, component)."""
    # A caller that plants nothing does not wait for scipy.
    from scipy.special import gammaincinv

    rng = np.random.default_rng([settings.seed, _NEURONS, number])
    width = rng.uniform(*WIDTHS)
    rows, columns = (_bump(n, width, rng) for n in components.shape[1:3])
    mixture = rng.standard_normal(settings.n_components)
    drive = np.einsum("iyxk,y,x,k->i", components, rows, columns, mixture)
    scale = DRIVE_STD / drive.std()
    bias = -float(drive.mean() * scale)
    rate = _rate(drive * scale + bias)

    fev = settings.fev + FEV_SPREAD * rng.uniform(-1, 1)
    noise_variance = rate.var() * (1 - fev) / fev
    unit = noise_variance / rate.mean()
    single, repeated = rate[: settings.n_single], rate[settings.n_single :, None]
    return _Neuron(
        rows=rows,
        columns=columns,
        mixture=mixture * scale,
        bias=bias,
        single=unit * gammaincinv(single / unit, rng.random(len(single))),
        repeats=unit
        * gammaincinv(repeated / unit, rng.random((len(repeated), settings.n_repeats))),
    )


def _bump(n: int, width: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """A Gaussian bump at a random place along n patches, array of shape (n,)."""
    centre = rng.uniform(-0.5, n - 0.5)
    bump: NDArray[np.float64] = np.exp(-0.5 * ((np.arange(n) - centre) / width) ** 2)
    return bump


def _rate(drive: NDArray[np.float64]) -> NDArray[np.float64]:
    """ELU(drive) + 1, exactly positive also where ELU is close to -1."""
    rate: NDArray[np.float64] = np.where(drive > 0, 1 + drive, np.exp(np.minimum(drive, 0)))
    return rate


def _leading_directions(tokens: NDArray[np.floating], n_components: int) -> NDArray[np.float64]:
    """Principal components of the channels, scaled to unit variance of the tokens along each.

    Array of shape (n_channels, n_components).
    """
    flat = tokens.reshape(-1, tokens.shape[-1])
    variances, directions = np.linalg.eigh(np.cov(flat, rowvar=False, dtype=np.float64))
    leading = directions[:, ::-1][:, :n_components]
    # Eigenvectors have no sign of their own, and libraries choose differently.
    largest = np.take_along_axis(leading, abs(leading).argmax(axis=0)[None], axis=0)
    scaled: NDArray[np.float64] = (
        leading * np.sign(largest) / np.sqrt(variances[::-1][:n_components])
    )
    return scaled
