"""Picture of some images: raw, and beside each what the model sees of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from stages.stimuli import Preprocessing

if TYPE_CHECKING:
    from stages.stimuli import Stimuli

#: Images that are drawn, spread over all.
MOST_DRAWN = 6


def draw_stimuli(stimuli: Stimuli, *, crop: tuple[int, int], size: tuple[int, int]) -> Figure:
    """A row per image: the raw one with the columns that are used, and what the model sees."""
    rows = np.linspace(0, len(stimuli) - 1, min(MOST_DRAWN, len(stimuli))).round().astype(int)
    ids = stimuli.ids[np.unique(rows)]
    raw = stimuli.read(ids)
    prepare = Preprocessing(crop=crop, input_size=size, mean=(0, 0, 0), std=(1, 1, 1))
    seen = prepare(raw)[:, 0].numpy()
    figure = Figure(figsize=(7.2, 1.2 * len(ids) + 0.5), layout="constrained")
    panels = figure.subplots(len(ids), 2, squeeze=False)
    n_rows, n_columns = stimuli.image_shape
    for (left, right), image_id, image, model in zip(panels, ids, raw, seen, strict=True):
        left.imshow(np.asarray(image, dtype=np.float64), cmap="gray", aspect="equal")
        if crop != (0, n_columns):
            place = (crop[0] - 0.5, -0.5)
            box = Rectangle(place, crop[1] - crop[0], n_rows, fill=False, ec="tab:orange", lw=2)
            left.add_patch(box)
        left.set_ylabel(f"image {image_id}", fontsize=9)
        right.imshow(model, cmap="gray", vmin=0, vmax=1, aspect="equal")
    for axes in panels.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    raw_title = f"raw, {n_rows} x {n_columns}"
    used = "" if crop == (0, n_columns) else f"; orange: columns {crop[0]} to {crop[1]}"
    panels[0, 0].set_title(raw_title + used, fontsize=9)
    panels[0, 1].set_title(f"what the model sees, {size[0]} x {size[1]}", fontsize=9)
    return figure
