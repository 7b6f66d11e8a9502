"""Measured test responses beside the predictions: single trials, once for each recording."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

from cache import beside, naming, place_folder
from stages.conditions import file_name
from stages.readouts import PREDICTIONS, TABLES, damage

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.plan.steps import Plan
    from stages.recordings import Recording

#: Begins the name of a recording's group.
MEASURED = "measured-"

#: Numbers in a chunk at most.
NUMBERS_OF_A_CHUNK = 1 << 24


def measured_groups(run: Path) -> list[str]:
    """The groups of a run, as paths relative to it."""
    found = (run / PREDICTIONS).glob(f"{MEASURED}*/zarr.json")
    return sorted(str(path.parent.relative_to(run)) for path in found)


def write_measured(run: Path, plan: Plan) -> None:
    """Write the single test responses of a plan's recordings, where they are not there yet.

    A group has `response` (n_test, n_repeats, n_neurons), NaN where a repeat is missing, in the
    order of the predictions' images and neurons, and their names, `image` and `neuron`.
    """
    # Every kind of task has its recording.
    tasks: list[Any] = [step.task for step in plan.conditions if step.task is not None]
    found = {task.recording.name: (task.recording, task.recording_digest) for task in tasks}
    for name, (recording, digest) in found.items():
        place = f"{PREDICTIONS}/{MEASURED}{file_name(name)}"
        same = _digest(run / place) == digest and damage(run, TABLES, (place,), alone=True) is None
        if not same:
            _write(run / place, recording, digest)


def _digest(group: Path) -> str | None:
    try:
        return str(json.loads((group / "zarr.json").read_bytes())["attributes"]["digest"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _write(group: Path, recording: Recording, digest: str) -> None:
    import numpy as np
    import zarr

    new, old = beside(group.parent, "new"), beside(group.parent, "old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    responses = recording.test_responses
    with naming(new):
        made = zarr.create_group(
            str(new),
            zarr_format=3,
            attributes={"recording": recording.name, "digest": digest},
        )
        made.create_array("image", data=recording.test_image_ids, dimension_names=("image",))
        made.create_array("neuron", data=recording.neurons, dimension_names=("neuron",))
        n_images, n_repeats, n_neurons = (max(1, n) for n in responses.shape)
        together = max(1, min(n_neurons, NUMBERS_OF_A_CHUNK // (n_images * n_repeats)))
        made.create_array(
            "response",
            data=np.ascontiguousarray(responses, dtype=np.float32),
            chunks=(n_images, n_repeats, together),
            dimension_names=("image", "repeat", "neuron"),
        )
    group.parent.mkdir(parents=True, exist_ok=True)
    place_folder(new, group, aside=old)
    shutil.rmtree(old, ignore_errors=True)
