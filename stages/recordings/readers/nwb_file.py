"""NWB files, opened by pynwb, and the objects in them found by name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.guards.file_kind import unexpected_kind
from stages.recordings.guards.limit import check_size

#: Kind of file of every NWB file, in the words of `unexpected_kind`.
_HDF5 = "an HDF5 file, such as NWB"


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """The NWBFile of a path, while it is open: arrays are read when asked for.

    Raises
    ------
    UserError
        pynwb is not installed; no such file, or none of NWB.
    """
    try:
        from pynwb import NWBHDF5IO
    except ImportError as error:
        raise UserError(
            f"{path}: NWB files are read by pynwb ({error}): pip install 'vitv1[nwb]'"
        ) from None
    if not path.is_file():
        raise UserError(f"{path} is no file: name an .nwb file in recording.path")
    if kind := unexpected_kind(path, _HDF5):
        raise UserError(f"{path} is {kind}, not an NWB file: name one")
    try:
        # What the file's version of the standard did otherwise is no news to who reads it.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            io = NWBHDF5IO(str(path), "r", load_namespaces=True)
            try:
                file = io.read()
            except BaseException:
                io.close()
                raise
    except Exception as error:  # foreign HDF5 makes the parser raise nearly anything
        said = " ".join(str(error).split())[:200]
        raise UserError(
            f"{path} cannot be read as an NWB file ({said}): check the file, or name another"
        ) from error
    try:
        yield file
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error}): fetch the file again") from error
    finally:
        io.close()


def one_of(found: Sequence[Any], name: str | None, what: str, setting: str, path: Path) -> Any:
    """The object of a name, or the only one.

    Parameters
    ----------
    found : sequence of container
        All objects of the kind.
    name : str, optional
        Name of the object, or the end of its path.
    what, setting : str
        The kind, and the setting that names the object, for messages.

    Raises
    ------
    UserError
        There is none of that name, or several are meant.
    """
    places = {place_of(each): each for each in found}
    meant = [p for p in places if name is None or f"/{p}".endswith(f"/{name}")]
    if len(meant) == 1:
        return places[meant[0]]
    listed = ", ".join(sorted(places)[:20]) or "none"
    asked = f"{len(meant)} of them are" if name is None else f"{len(meant)} are named {name}"
    if not places:
        raise UserError(f"{path} holds no {what}: name another file, or correct {setting}")
    raise UserError(f"{path} holds {what}: {listed}; {asked}: set {setting} to one")


def place_of(container: Any) -> str:
    """Path of an object in its file, such as "ophys/DfOverF/RoiResponseSeries"."""
    names: list[str] = []
    while container.parent is not None:
        names.insert(0, container.name)
        container = container.parent
    return "/".join(names)


def stored(data: Any, what: str) -> NDArray[Any]:
    """An array of a file as it is stored, read whole.

    Raises
    ------
    UserError
        It would take more memory than `check_size` allows.
    """
    size = getattr(data, "nbytes", 0)
    check_size(int(size), what)
    return np.asarray(data[:])


def template_names(images: Any, path: Path) -> list[str] | None:
    """Names of the images of an Images container, by index; None where the order is not known.

    HDF5 lists names by the alphabet. Where the container tells no order, it is that of the numbers
    at the ends of the names.
    """
    if images.order_of_images is not None:
        return [image.name for image in images.order_of_images.data[:]]
    numbered = {name: re.search(r"[0-9]+$", name) for name in images.images}
    if not all(numbered.values()):
        return None if len(numbered) > 1 else list(numbered)
    return sorted(numbered, key=lambda name: int(numbered[name][0]))  # type: ignore[index]


def template_stack(template: Any, *, rows_first: bool, path: Path) -> NDArray[Any]:
    """Images of a stimulus template, array of shape (n_images, row, column).

    Raises
    ------
    UserError
        Images of several sizes or in colour, an unknown order, or too many of them.
    """
    what = f"{place_of(template)} of {path}"
    if hasattr(template, "images"):
        names = template_names(template, path)
        if names is None:
            names = list(template.images)
        images = [template.images[name] for name in names]
        shapes = {tuple(image.data.shape) for image in images}
        if len(shapes) != 1:
            raise UserError(
                f"{what} holds images of {len(shapes)} sizes ({sorted(shapes)[:4]}): make them "
                "alike, and name them in stimuli.path"
            )
        check_size(sum(int(getattr(image.data, "nbytes", 0)) for image in images), what)
        stack = np.stack([np.asarray(image.data[:]) for image in images])
    else:
        if template.data is None or len(template.data.shape) < 3:
            raise UserError(
                f"{what} holds no images itself (files outside?): name them in stimuli.path"
            )
        stack = stored(template.data, what)
    if stack.ndim != 3 or stack.dtype.kind not in "buif":
        raise UserError(
            f"{what} has images of shape {stack.shape[1:]} and type {stack.dtype}: only grey ones, "
            "(row, column), can be used; name others in stimuli.path"
        )
    return stack if rows_first else stack.swapaxes(1, 2)
