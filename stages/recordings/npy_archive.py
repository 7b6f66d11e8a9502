"""Arrays kept as `.npy` files in a folder, a zip archive or an `.npz`, read in place."""

from __future__ import annotations

import os
import threading
import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError


class NpyFolder(ABC):
    """Members addressed by names relative to a root, such as `data/images/0.npy`.

    It can be used from several threads, and pickled: it then carries its path, not its content.
    """

    def __init__(self, path: Path, root: str = "") -> None:
        self.path = path
        self.root = root

    def __reduce__(self) -> tuple[type[NpyFolder], tuple[Path, str]]:
        return type(self), (self.path, self.root)

    @abstractmethod
    def members(self, folder: str = "") -> frozenset[str]:
        """Names directly in a folder of the root; none where there is no such folder."""

    @abstractmethod
    def checksum(self, name: str) -> int:
        """CRC-32 of a member's bytes."""

    @abstractmethod
    def _open(self, name: str) -> IO[bytes]: ...

    def has(self, name: str) -> bool:
        """Whether there is such a member."""
        folder, _, file = name.rpartition("/")
        return file in self.members(folder)

    def array(self, name: str, *, allow_pickle: bool = False) -> NDArray[Any]:
        """Read one member.

        Raises
        ------
        UserError
            An absent or damaged member, or one of Python objects without consent to unpickle it.
        """
        where = f"{name} of {self.path}"
        try:
            with self._open(name) as stream:
                return np.lib.format.read_array(stream, allow_pickle=allow_pickle)
        except (KeyError, FileNotFoundError):
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


class _Directory(NpyFolder):
    def members(self, folder: str = "") -> frozenset[str]:
        try:
            return frozenset(p.name for p in (self.path / self.root / folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return frozenset()

    def checksum(self, name: str) -> int:
        return zlib.crc32((self.path / self.root / name).read_bytes())

    def _open(self, name: str) -> IO[bytes]:
        return (self.path / self.root / name).open("rb")


class _Archive(NpyFolder):
    def __init__(self, path: Path, root: str = "") -> None:
        super().__init__(path, root)
        self._own = threading.local()

    def _zip(self) -> zipfile.ZipFile:
        # One handle per thread and process: a handle shared with a forked child shares its file
        # position, and both would read from wherever the other had moved it.
        if getattr(self._own, "process", None) != os.getpid():
            self._own.zip = zipfile.ZipFile(self.path)
            self._own.process = os.getpid()
        archive: zipfile.ZipFile = self._own.zip
        return archive

    def members(self, folder: str = "") -> frozenset[str]:
        prefix = self.root + (f"{folder}/" if folder else "")
        inside = (n[len(prefix) :] for n in self._zip().namelist() if n.startswith(prefix))
        return frozenset(name for name in inside if name and "/" not in name)

    def checksum(self, name: str) -> int:
        return self._zip().getinfo(self.root + name).CRC

    def _open(self, name: str) -> IO[bytes]:
        return self._zip().open(self.root + name)


def open_npz(path: Path) -> NpyFolder:
    """The arrays of an `.npz` file, members `<key>.npy`.

    Raises
    ------
    UserError
        No such file, or not a zip archive.
    """
    _archive_names(path)
    return _Archive(path)


def open_npy_folder(path: Path, marker: str) -> NpyFolder:
    """Open the folder or zip archive whose root holds `marker`, a member that tells the layout.

    The root is `path` itself or the only folder in it that holds the marker.

    Raises
    ------
    UserError
        No such path, a file that is no zip archive, no root or several.
    """
    if path.is_dir():
        inside = sorted(p.name for p in path.iterdir() if p.is_dir())
        roots = [r for r in ("", *(f"{name}/" for name in inside)) if (path / r / marker).is_file()]
    else:
        names = (n for n in _archive_names(path) if n.endswith(marker))
        roots = sorted(n.removesuffix(marker) for n in names)
        roots = [r for r in roots if r == "" or (r.endswith("/") and r.count("/") == 1)]
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
    return (_Directory if path.is_dir() else _Archive)(path, roots[0])


def _archive_names(path: Path) -> list[str]:
    if not path.exists():
        raise UserError(f"{path} does not exist: check the path in the experiment file")
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(
            f"{path} is not a readable .zip or .npz file ({error}): fetch it again, or name another"
        ) from error


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
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError):
            pass
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
