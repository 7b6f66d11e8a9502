"""Changes of the data that nobody asked for: a default crop, and images that are stretched."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.variant.inputs import Inputs

#: Widths may be stretched by so much before a person is told.
STRETCH = 1.1


def changed_by_default(inputs: Inputs) -> list[str]:
    """Sentences on what defaults, and reading, change in the images."""
    if inputs.absent or inputs.planted:
        return []
    stimuli, crop, asked = inputs.stimuli, inputs.crop, inputs.experiment.stimuli
    if stimuli is None or crop is None:
        return []
    found = list(stimuli.remarks)
    rows, columns = stimuli.image_shape
    if asked.crop is None and crop != (0, columns):
        found.append(
            f"columns {crop[0]} to {crop[1]} of {columns} are used, the default of the recording's "
            "format and name: stimuli.crop chooses others"
        )
    wide = (crop[1] - crop[0]) / rows
    seen = asked.size[1] / asked.size[0]
    if max(wide / seen, seen / wide) > STRETCH:
        found.append(
            f"images of {rows} x {crop[1] - crop[0]} pixels are stretched to {asked.size[0]} x "
            f"{asked.size[1]}: stimuli.input_size in the same proportion keeps them as they are"
        )
    return found
