"""Synthetic recordings: images with natural statistics, shown to planted neurons."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cache import resolve_block
from stages.backbones.families import refuse_layers
from stages.recordings.guards.limit import NUMBER, check_size
from stages.recordings.kept import kept_beside, tokens_identity
from stages.recordings.recording import Recording
from stages.recordings.recording_format import RecordingFormat, RecordingSizes
from stages.recordings.synthetic.gabor_energy import energy_recording
from stages.recordings.synthetic.planted import recording_of, synthetic_recording
from stages.recordings.synthetic_settings import SyntheticSettings
from stages.stimuli.stimuli import Stimuli, stimuli_from_array

if TYPE_CHECKING:
    from cache import FeatureCache
    from stages.recordings.settings import RecordingSettings
    from stages.variant import Variant

#: Raised whenever the same settings and tokens give other responses than before.
RESPONSES_VERSION = 1

#: Stream of random numbers of the images; the neurons have another of the same seed.
IMAGE_STREAM = 0


class SyntheticFormat(RecordingFormat):
    """Images made up here, and neurons planted in one block's patch tokens, or in pixels."""

    def planted(self, settings: RecordingSettings) -> bool:
        """Whether tokens are needed, which Gabor filters are not made of."""
        return settings.synthetic.gabor is None

    def read(self, settings: RecordingSettings) -> Recording:
        """Neurons that see pixels, all of them."""
        synthetic, name = settings.synthetic, settings.name
        assert synthetic.gabor is not None
        self._check_size(settings)
        images = synthetic_images(synthetic)
        return energy_recording(synthetic, synthetic.gabor, images, name=name)[0]

    def sizes(self, settings: RecordingSettings) -> RecordingSizes:
        """Sizes, which are settings themselves."""
        planted = settings.synthetic
        return replace(
            super().sizes(settings),
            neurons=settings.chosen(planted.n_neurons),
            trials=planted.n_single,
            test_images=planted.n_test,
        )

    def images(self, settings: RecordingSettings) -> Stimuli:
        """The images of `synthetic_images`.

        Raises
        ------
        UserError
            They, or the responses to them, take more memory than `check_size` allows.
        """
        self._check_size(settings)
        return synthetic_stimuli(settings.synthetic)

    def _check_size(self, settings: RecordingSettings) -> None:
        planted = settings.synthetic
        shown = planted.n_single + planted.n_test * planted.n_repeats
        what = f"of recording.synthetic of {settings.name}"
        check_size(planted.n_images * math.prod(planted.image_shape), f"the images {what}")
        check_size(shown * planted.n_neurons * NUMBER, f"the responses {what}")

    def block(self, settings: RecordingSettings) -> int | None:
        """The block (0-based) in whose tokens the neurons are planted."""
        return settings.synthetic.block if self.planted(settings) else None

    def check(self, settings: RecordingSettings, variant: Variant) -> None:
        """Refuse a backbone whose blocks cannot be moved, too, and blocks that it does not have."""
        super().check(settings, variant)
        perturb = settings.synthetic.perturb
        for block in perturb.blocks if perturb else ():
            resolve_block(block, variant.token_shape.n_blocks)
        if perturb and not variant.layered:
            name = variant.settings.backbone.name
            raise refuse_layers("recording.synthetic.perturb", name, "drop perturb")

    def plant(
        self,
        settings: RecordingSettings,
        *,
        cache: FeatureCache,
        variant: Variant,
        keep: bool = False,
    ) -> Recording:
        """Plant all neurons in the cache's tokens, or in those of the moved backbone."""
        planted = settings.synthetic
        ids = np.arange(planted.n_images)
        identity = tokens_identity(cache, ids)

        def respond() -> dict[str, NDArray[np.float32]]:
            if planted.perturb is None:
                tokens = cache.block(planted.block).read("patches", ids)
            else:
                from stages.recordings.synthetic.perturbed_backbone import moved_tokens

                tokens = moved_tokens(planted, cache=cache, variant=variant, keep=keep)
            found, _ = synthetic_recording(planted, tokens.astype(np.float32), name=settings.name)
            return {"single": found.responses, "test": found.test_responses}

        # Without what these neurons know nothing of, so that kept responses keep their names.
        told = {name: value for name, value in asdict(planted).items() if name != "gabor"}
        content = {**identity, "synthetic": told, "version": RESPONSES_VERSION}
        kept = kept_beside(cache, "responses", content, respond, keep=keep)
        return recording_of(planted, kept["single"], kept["test"], name=settings.name)

    def remark(self, table: Mapping[str, Any]) -> str:
        """Where the neurons come from."""
        planted = table.get("synthetic") or {}
        if planted.get("gabor") is not None:
            return (
                f"The neurons of {table['name']} are synthetic: energies of Gabor filters at "
                "random places in the images, and no readouts of a backbone."
            )
        block = planted.get("block", SyntheticSettings().block)
        moved = ", after the backbone's weights were moved" if planted.get("perturb") else ""
        return (
            f"The neurons of {table['name']} are synthetic: planted as readouts of the patch "
            f"tokens of block {block}{moved or ', which must come out best'}."
        )


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
        noise = np.random.default_rng([settings.seed, IMAGE_STREAM, i]).standard_normal(shape)
        image = np.fft.irfft2(np.fft.rfft2(noise) / frequency, s=shape)
        image -= image.min()
        images[i] = np.rint(image * (255 / image.max()))
    return images


def synthetic_stimuli(settings: SyntheticSettings) -> Stimuli:
    """The images of `synthetic_images` with ids 0..n_images-1."""
    return stimuli_from_array(
        synthetic_images(settings), source=f"the synthetic images of seed {settings.seed}"
    )
