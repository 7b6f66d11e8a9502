"""Images that are in two tiers of a recording: refused, or dropped from training, or told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.recording import Recording, require_tiers

if TYPE_CHECKING:
    from stages.recordings.recording_format import RecordingFormat
    from stages.recordings.settings import RecordingSettings
    from stages.stimuli.stimuli import StimulusDigest


def separate_tiers(
    recording: Recording, settings: RecordingSettings, format: RecordingFormat
) -> Recording:
    """The recording without single trials of test images; itself where there are none.

    A readout that was trained, or chosen, on a test image is not scored on new images. Validation
    images that are trained on are told in `Recording.remarks`: some published splits have them.

    Raises
    ------
    UserError
        There are such trials, and `settings.overlap` is not "drop"; or nothing is left.
    """
    shared = np.isin(recording.image_ids, recording.test_image_ids)
    if shared.any():
        images = np.unique(recording.image_ids[shared])
        of_validation = int((shared & recording.validation).sum())
        found = (
            f"recording {recording.name}: {len(images)} of {len(recording.test_image_ids)} test "
            f"images ({_named(images)}) are also shown in {int(shared.sum()) - of_validation} "
            f"training and {of_validation} validation trials"
        )
        if settings.overlap != "drop":
            raise UserError(
                f"{found}, so that scores on them would say nothing of new images: set [recording] "
                'overlap = "drop" to leave those trials out, or correct the file'
            )
        recording = replace(
            recording,
            image_ids=recording.image_ids[~shared],
            responses=recording.responses[~shared],
            validation=format.validation(recording.validation[~shared]),
            remarks=(*recording.remarks, f"{found}, which were left out"),
        )
        require_tiers(recording)
    validation, training = (
        np.unique(recording.image_ids[trials])
        for trials in (recording.validation, ~recording.validation)
    )
    repeated = np.intersect1d(validation, training)
    if not len(repeated):
        return recording
    remark = (
        f"recording {recording.name}: {len(repeated)} of {len(validation)} validation images "
        f"({_named(repeated)}) are also shown in training trials: validation scores are too good "
        "for new images"
    )
    return replace(recording, remarks=(*recording.remarks, remark))


def twin_remark(recording: Recording, digest: StimulusDigest) -> str | None:
    """A remark on test images whose pixels single trials show under another id, if there are any.

    Parameters
    ----------
    digest : StimulusDigest
        Of images that hold all of the recording's.
    """
    stimuli = digest.stimuli
    test = np.unique(recording.test_image_ids)
    single = np.setdiff1d(recording.image_ids, test)
    sums, others = (digest.crc32[np.searchsorted(stimuli.ids, ids)] for ids in (test, single))
    alike = np.isin(sums, others)
    pairs = [
        (image, other)
        for image, crc in zip(test[alike], sums[alike], strict=True)
        for other in single[others == crc]
        if np.array_equal(*stimuli.read(np.array([image, other])))
    ]
    if not pairs:
        return None
    images = np.array([image for image, _ in pairs])
    return (
        f"recording {recording.name}: {len(np.unique(images))} of {len(test)} test images "
        f"({_named(np.unique(images))}) have the same pixels as images of training or validation "
        f"trials ({pairs[0][0]} as {pairs[0][1]}): give equal images one id, or scores on them say "
        "nothing of new images"
    )


def _named(images: NDArray[np.int64]) -> str:
    return ", ".join(map(str, images[:5])) + (", ..." if len(images) > 5 else "")
