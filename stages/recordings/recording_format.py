"""Base class of recording formats: how a recording of one format, and its images, are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import UserError, resolve_block
from stages.recordings.recording import Recording
from stages.spread import require_rates
from stages.stimuli.stimuli import Stimuli

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from cache import FeatureCache
    from stages.recordings.settings import RecordingSettings
    from stages.variant import Variant


@dataclass(frozen=True, kw_only=True)
class RecordingSizes:
    """How much a recording holds: chosen neurons, and as `ExpectedTrials`; None where unknown.

    Parameters
    ----------
    incomplete : bool
        Whether single-trial responses are known to be missing.
    negative : array of shape (n,), optional
        Neurons that are known to have negative responses.
    """

    recording: str
    neurons: int | None
    trials: int | None
    test_images: int | None
    incomplete: bool = False
    negative: NDArray[np.int64] | None = None

    def require_rates(self) -> None:
        """Refuse with `UserError` negative responses."""
        if self.negative is not None and self.neurons is not None:
            require_rates(f"recording {self.recording}", self.negative, self.neurons)

    @property
    def images(self) -> int | None:
        """Images of all trials, repeated ones counted again; None where they cannot be told."""
        if self.trials is None or self.test_images is None:
            return None
        return self.trials + self.test_images


class RecordingFormat:
    """One format of recordings.

    A format that is a file overrides `read`. If it has a format of images, too, it overrides
    `reads_images` and `read_images`; if its own file holds the images, `images_path`, and if
    settings tell where in it, `own_images`. A format whose neurons are planted in the tokens of a
    backbone overrides `planted`, `images`, `block`, `sizes` and `plant`, and `check` where not
    every backbone will do.
    """

    def planted(self, settings: RecordingSettings) -> bool:
        """Whether neurons are planted in the tokens of the experiment's cache, not read."""
        return False

    def read(self, settings: RecordingSettings) -> Recording:
        """The whole recording, all neurons of its file, checked by `check_recording`.

        Raises
        ------
        UserError
            No file, or one that cannot be used; the message says what to do.
        """
        raise NotImplementedError(f"{type(self).__name__} does not read recordings")

    def validation(self, kept: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which single trials are for validation where some were left out; those that were before.

        From an array of shape (n_trials,) of what the trials that are left were, and like it.
        """
        return kept

    def images_path(self, settings: RecordingSettings) -> Path | None:
        """Path of the images where `stimuli.path` names none; None if the recording has no images.

        Raises
        ------
        UserError
            The recording has images, but its path is not named or not there.
        """
        return None

    def reads_images(self, path: Path) -> bool:
        """Whether `read_images` takes such a file or folder; told from its name and kind."""
        return False

    def read_images(self, path: Path, *, allow_pickle: bool) -> Stimuli:
        """Grey images by image id, each of shape (row, column); opened now, read when asked for.

        Raises
        ------
        UserError
            A file that cannot be used; the message says what to do.
        """
        raise NotImplementedError(f"{type(self).__name__} does not read images")

    def own_images(self, settings: RecordingSettings) -> Stimuli:
        """The images at `images_path`, for a recording that has them."""
        path = self.images_path(settings)
        assert path is not None
        return self.read_images(path, allow_pickle=settings.allow_pickle)

    def recognises(self, path: Path) -> bool:
        """Whether a file or folder is surely a recording of this format, told at a glance."""
        return False

    def columns(self, settings: RecordingSettings) -> tuple[int, int] | None:
        """Raw columns [first, last) that the backbone sees by default; None means all."""
        return None

    def cnn_columns(self, settings: RecordingSettings) -> tuple[int, int] | None:
        """Raw columns [first, last) that the published CNN sees by default; None means all."""
        return None

    def sizes(self, settings: RecordingSettings) -> RecordingSizes:
        """Sizes as far as the settings tell them, without the file."""
        expected = settings.expected
        return RecordingSizes(
            recording=settings.name,
            neurons=settings.chosen(expected.neurons),
            trials=expected.trials,
            test_images=expected.test_images,
        )

    def images(self, settings: RecordingSettings) -> Stimuli | None:
        """Images that the format makes itself, with no file; None if it makes none."""
        return None

    def block(self, settings: RecordingSettings) -> int | None:
        """The block (0-based) in whose tokens the neurons are planted; None if they are not."""
        return None

    def check(self, settings: RecordingSettings, variant: Variant) -> None:
        """Refuse what could not be planted in the tokens of a variant's backbone.

        Raises
        ------
        UserError
            A block that does not exist, or what the format asks of a backbone.
        """
        block = self.block(settings)
        if block is not None:
            resolve_block(block, variant.token_shape.n_blocks)

    def plant(
        self,
        settings: RecordingSettings,
        *,
        cache: FeatureCache,
        variant: Variant,
        keep: bool = False,
    ) -> Recording:
        """The whole recording of planted neurons; only of planted formats.

        The cache is complete: it has patch tokens (n_images, row, column, channel) of the variant's
        images. With `keep`, files may be written beside it, for the next time.

        Raises
        ------
        UserError
            Settings that do not suit the backbone.
        """
        raise NotImplementedError(f"{type(self).__name__} does not plant neurons")

    def remark(self, table: Mapping[str, Any]) -> str | None:
        """A sentence that reports say of the neurons of a table of an experiment file, if any."""
        return None


def recording_path(settings: RecordingSettings) -> Path:
    """The recording's file or folder, which is there.

    Raises
    ------
    UserError
        It is not named, or not there.
    """
    if settings.path is None:
        raise UserError(
            f"recording {settings.name} has no path: name its file or folder in recording.path"
        )
    if not settings.path.exists():
        raise UserError(
            f"{settings.path}: no such file or folder; correct recording.path of {settings.name}"
        )
    return settings.path
