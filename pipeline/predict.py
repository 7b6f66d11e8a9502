"""`vitv1 predict`: rates of a saved condition for new images, in one file."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from cache import UserError, beside, make_folder, naming, place_folder, replaced
from pipeline.results import describe, read_neurons, valid
from stages.conditions import IDENTITY, Condition
from stages.recordings import read_images

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    from pipeline.terminal import Terminal


class Predicted(NamedTuple):
    """Rates of shape (n_images, n_neurons), the ids of both, and the condition in words."""

    rates: NDArray[np.float32]
    images: NDArray[np.int64]
    neurons: NDArray[np.int64]
    condition: str


def predict_images(
    run: Path, images: Path, output: Path, terminal: Terminal, *, asked: Mapping[str, Any]
) -> None:
    """Write the rates of a run's best condition for the images of a file or folder.

    Parameters
    ----------
    output : path
        A new file or folder; its ending decides what is written.
    asked : mapping
        Identity columns that narrow the choice. Of what is left, the condition that explains most
        of its valid neurons' validation variance is taken.

    Raises
    ------
    UserError
        Another ending, a place that is taken, no such condition, images of another kind, or
        whatever `stages.load_model` refuses.
    """
    import numpy as np

    write = WRITERS.get(output.suffix)
    if write is None:
        raise UserError(f"{output}: name a file that ends in {', '.join(WRITERS)}")
    if output.exists() or output.is_symlink():
        raise UserError(f"{output} is there already: name another file, or delete it")
    if not images.exists():
        raise UserError(f"{images}: no such file or folder of images; correct the path")
    condition = best_condition(run, asked)
    stimuli = read_images(images, allow_pickle=False)
    # timm takes seconds to import.
    from stages import load_model

    identity: dict[str, Any] = condition.identity()
    model = load_model(run, **identity)
    told = describe(condition.identity(), IDENTITY)
    rates = []
    with terminal.bar("predicting", total=len(stimuli), unit="images") as progress:
        for ids, pixels in stimuli.batches():
            rates.append(model.predict(pixels, progress=False))
            progress(len(ids))
    make_folder(output.parent)
    write(output, Predicted(np.concatenate(rates), stimuli.ids, model.neurons, told))
    n_images, n_neurons = len(stimuli), len(model.neurons)
    terminal.result(f"{output}: rates of {n_neurons} neurons for {n_images} images, from {told}")
    terminal.document({"output": output, "condition": condition.identity(), "images": n_images})


def best_condition(run: Path, asked: Mapping[str, Any]) -> Condition:
    """The condition of a run's tables that does best on validation, of those that are asked for.

    Raises
    ------
    UserError
        The run has no results, none that fits, or several recordings.
    """
    try:
        table = read_neurons(run)
    except FileNotFoundError:
        raise UserError(f"{run} has no results: run vitv1 fit first, or correct the path") from None
    for name, value in asked.items():
        chosen = table[table[name] == value]
        if chosen.empty:
            there = ", ".join(str(each) for each in table[name].dropna().unique())
            raise UserError(
                f"{run} has no condition with --{name} {value}; it has {there or 'none'}"
            )
        table = chosen
    if table["recording"].nunique() > 1:
        names = ", ".join(table["recording"].unique())
        raise UserError(f"{run} holds the recordings {names}: choose one with --recording")
    # Where no neuron is valid, all of them choose.
    scored = valid(table) if len(valid(table)) else table
    means = scored.groupby(list(IDENTITY), dropna=False, sort=False)["val_varexp"].mean()
    best = (
        means.fillna(float("-inf"))
        .reset_index()
        .sort_values("val_varexp", ascending=False, kind="stable")
    )
    return Condition.from_row(best.iloc[0].to_dict())


def _write_npz(path: Path, predicted: Predicted) -> None:
    import numpy as np

    with replaced(path, durable=True) as file:
        np.savez(
            file,
            rates=predicted.rates,
            image=predicted.images,
            neuron=predicted.neurons,
            condition=np.array(predicted.condition),
        )


def _write_zarr(path: Path, predicted: Predicted) -> None:
    import zarr

    new = beside(path, "new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        with naming(new):
            told = {"condition": predicted.condition}
            group = zarr.create_group(str(new), zarr_format=3, attributes=told)
            group.create_array("image", data=predicted.images, dimension_names=("image",))
            group.create_array("neuron", data=predicted.neurons, dimension_names=("neuron",))
            axes = ("image", "neuron")
            group.create_array("rates", data=predicted.rates, dimension_names=axes)
        place_folder(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write_parquet(path: Path, predicted: Predicted) -> None:
    """A row per image and neuron, which joins with `neurons.parquet`."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"image": pa.int64(), "neuron": pa.int64(), "rate": pa.float32()}
    schema = pa.schema(list(types.items()), metadata={"condition": predicted.condition})
    with replaced(path, durable=True) as file, pq.ParquetWriter(file, schema) as writer:
        for image, row in zip(predicted.images, predicted.rates, strict=True):
            columns = [np.full(len(row), image), predicted.neurons, row]
            writer.write_batch(pa.record_batch(columns, schema=schema))


#: What writes the rates, by the ending of their file.
WRITERS: dict[str, Callable[[Path, Predicted], None]] = {
    ".npz": _write_npz,
    ".zarr": _write_zarr,
    ".parquet": _write_parquet,
}
