"""Arrays kept as `.npy` files in a folder, a zip archive or an `.npz`, read in place."""

from __future__ import annotations

import io
import math
import os
import threading
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.feve import pad_repeats
from stages.recordings.guards.file_kind import unexpected_kind
from stages.recordings.guards.limit import NUMBER, check_size, current_limit
from stages.recordings.guards.unpickle import unpickled_array

#: Longest header of a `.npy` file; those of plain arrays have some hundred bytes.
HEADER = 4096


class NpyFolder:
    """Members of a folder or archive, by names relative to a root, such as `data/images/0.npy`.

    The root has a slash at its end; it is "" for the top. All can be used from several threads, and
    pickled: the path travels then, not the content. No array may take more bytes of memory than
    `limit`, by default `current_limit`.
    """

    def __init__(self, path: Path, root: str = "", limit: int | None = None) -> None:
        self.path = path
        self.root = root
        self.limit = current_limit() if limit is None else limit
        self._own = threading.local()

    def __reduce__(self) -> tuple[type[NpyFolder], tuple[Path, str, int]]:
        return NpyFolder, (self.path, self.root, self.limit)

    def members(self, folder: str = "") -> frozenset[str]:
        """Names directly in a folder of the root; none where there is no such folder."""
        there = self._member(folder)
        return frozenset(entry.name for entry in there.iterdir()) if there.is_dir() else frozenset()

    def checksum(self, name: str) -> int:
        """CRC-32 of a member's bytes; an archive has it at hand."""
        member = self._member(name)
        if isinstance(member, zipfile.Path):
            return member.root.getinfo(member.at).CRC
        crc = 0
        with member.open("rb") as stream:
            while part := stream.read(1 << 20):
                crc = zlib.crc32(part, crc)
        return crc

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
        """Read one member; arrays in an object array are objects that `np.asarray` takes.

        Raises
        ------
        UserError
            An absent or damaged member, one that is larger than the limit, or one of Python objects
            without consent to unpickle it, or of other ones than `unpickled_array` takes.
        """
        where = f"{name} of {self.path}"
        try:
            member = self._member(name)
            with cast("io.BufferedReader", member.open("rb")) as stream:  # a zip's can peek, too
                head = io.BytesIO(stream.peek(HEADER)[:HEADER])
                if np.lib.format.read_magic(head) == (1, 0):
                    shape, _, dtype = np.lib.format.read_array_header_1_0(head)
                else:
                    shape, _, dtype = np.lib.format.read_array_header_2_0(head)
                check_size(math.prod(shape) * max(dtype.itemsize, NUMBER), where, self.limit)
                if not dtype.hasobject:
                    return np.lib.format.read_array(stream, allow_pickle=False)
                if not allow_pickle:
                    raise UserError(
                        f"{where} is an array of Python objects: set recording.allow_pickle = true "
                        "and give --allow-pickle only if you trust where it comes from"
                    )
                check_size(_stored_size(member), where, self.limit)
                stream.read(head.tell())
                return unpickled_array(stream.read(), where, self.limit)
        except UserError:
            raise
        except FileNotFoundError:
            there = sorted(self.members(name.rpartition("/")[0]))
            listed = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")
            raise UserError(
                f"{where} does not exist (beside it: {listed or 'nothing'}): check the file"
            ) from None
        except Exception as error:  # damaged bytes make the parsers raise nearly anything
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
        if kind := unexpected_kind(path, "a zip archive"):
            raise UserError(f"{path} is {kind}, not a .zip or .npz file: name one") from None
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


def padded_repeats(
    repeats: Sequence[NDArray[Any]], n_neurons: int, what: str, limit: int
) -> NDArray[np.float32]:
    """Repeats per image in one array, as `pad_repeats` makes it.

    Raises
    ------
    UserError
        It would be larger than the limit, in bytes.
    """
    longest = max((len(part) for part in repeats), default=0)
    check_size(len(repeats) * longest * n_neurons * NUMBER, f"repeats of {what}", limit)
    return pad_repeats(repeats, n_neurons, dtype=np.float32)


def _stored_size(member: Path | zipfile.Path) -> int:
    if isinstance(member, zipfile.Path):
        return member.root.getinfo(member.at).file_size
    return member.stat().st_size


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
