"""Arrays kept as `.npy` files in a folder, a zip archive or an `.npz`, read in place."""

from __future__ import annotations

import os
import threading
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cache import UserError


class NpyFolder:
    """Members of a folder or archive, by names relative to a root, such as `data/images/0.npy`.

    The root has a slash at its end; it is "" for the top. All can be used from several threads, and
    pickled: the path travels then, not the content.
    """

    def __init__(self, path: Path, root: str = "") -> None:
        self.path = path
        self.root = root
        self._own = threading.local()

    def __reduce__(self) -> tuple[type[NpyFolder], tuple[Path, str]]:
        return NpyFolder, (self.path, self.root)

    def members(self, folder: str = "") -> frozenset[str]:
        """Names directly in a folder of the root; none where there is no such folder."""
        there = self._member(folder)
        return frozenset(entry.name for entry in there.iterdir()) if there.is_dir() else frozenset()

    def checksum(self, name: str) -> int:
        """CRC-32 of a member's bytes; an archive has it at hand."""
        member = self._member(name)
        if isinstance(member, zipfile.Path):
            return member.root.getinfo(member.at).CRC
        return zlib.crc32(member.read_bytes())

    def tree(self) -> Path | zipfile.Path:
        """The folder or the archive, opened once per thread and process.

        An archive that is shared with a forked child shares its file position, and both would read
        from wherever the other had moved it.
        """
        if getattr(self._own, "process", None) != os.getpid():
            self._own.tree = self.path if self.path.is_dir() else zipfile.Path(self.path)
            self._own.process = os.getpid()
        return cast("Path | zipfile.Path", self._own.tree)

    def _member(self, name: str) -> Path | zipfile.Path:
        return self.tree() / f"{self.root}{name}"

    def has(self, name: str) -> bool:
        """Whether there is such a member."""
        return self._member(name).is_file()

    def array(self, name: str, *, allow_pickle: bool = False) -> NDArray[Any]:
        """Read one member.

        Raises
        ------
        UserError
            An absent or damaged member, or one of Python objects without consent to unpickle it.
        """
        where = f"{name} of {self.path}"
        try:
            with self._member(name).open("rb") as stream:
                return np.lib.format.read_array(stream, allow_pickle=allow_pickle)
        except FileNotFoundError:
            there = sorted(self.members(name.rpartition("/")[0]))
            listed = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")
            raise UserError(
                f"{where} does not exist (beside it: {listed or 'nothing'}): check the file"
            ) from None
        except Exception as error:  # damaged bytes make the parsers raise nearly anything
            if not allow_pickle and "allow_pickle" in str(error):
                raise UserError(
                    f"{where} is an array of Python objects, and unpickling runs any code the file "
                    "holds: set recording.allow_pickle = true only if you trust where it comes from"
                ) from None
            raise UserError(f"{where} cannot be read ({error}): fetch the file again") from error


def open_archive(path: Path, *, may_be_folder: bool = False) -> NpyFolder:
    """The arrays of a zip archive, such as an `.npz`, whose members are `<key>.npy`.

    Raises
    ------
    UserError
        No such file, or not a zip archive.
    """
    folder = NpyFolder(path)
    if not path.exists():
        raise UserError(f"{path} does not exist: check the path in the experiment file")
    try:
        if path.is_dir() and not may_be_folder:
            raise IsADirectoryError("it is a folder")
        folder.tree()
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{path} is not a readable .zip or .npz file ({error}): fetch it again, or name another"
        ) from error
    return folder


def open_npy_folder(path: Path, marker: str) -> NpyFolder:
    """Open the folder or zip archive whose root holds `marker`, a member that tells the layout.

    The root is `path` itself or the only folder in it that holds the marker.

    Raises
    ------
    UserError
        No such path, a file that is no zip archive, no root or several.
    """
    folder = open_archive(path, may_be_folder=True)
    tree = folder.tree()
    inside = sorted(entry.name for entry in tree.iterdir() if entry.is_dir())
    roots = [r for r in ("", *(f"{name}/" for name in inside)) if (tree / r / marker).is_file()]
    if not roots:
        raise UserError(
            f"{path} holds no {marker}, neither at its top nor one folder below: name the folder "
            "(or its .zip) that contains data/ and meta/"
        )
    if len(roots) > 1:
        raise UserError(
            f"{path} holds {len(roots)} recordings ({', '.join(r or './' for r in roots)}): "
            "name one of them"
        )
    folder.root = roots[0]
    return folder


def numbers(array: NDArray[Any], what: str, *, axes: tuple[str, ...]) -> NDArray[Any]:
    """The array itself if it holds real numbers along the named axes.

    Object arrays of numbers (unpickled with consent) become float64.

    Raises
    ------
    UserError
        Another rank, or anything but real numbers.
    """
    if array.ndim != len(axes):
        raise UserError(
            f"{what} must have {len(axes)} axes ({', '.join(axes)}), found shape {array.shape}: "
            "check the file"
        )
    if array.dtype.kind == "O":
        with suppress(TypeError, ValueError):
            return array.astype(np.float64)
    if array.dtype.kind not in "buif":
        raise UserError(f"{what} must hold real numbers, found dtype {array.dtype}: check the file")
    return array


def integer_vector(array: NDArray[Any], what: str) -> NDArray[np.int64]:
    """Whole numbers, array of shape (n,), from integers or from floats without a fraction.

    Raises
    ------
    UserError
        Another rank, or a value that is not a whole number.
    """
    array = numbers(array, what, axes=("entry",))
    fractional = array[~np.isfinite(array) | (array != np.trunc(array))]
    if len(fractional):
        raise UserError(f"{what} must hold whole numbers, found {fractional[0]}: check the file")
    return array.astype(np.int64)
