"""Opening a container of arrays, whatever kind of file or folder it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from cache import UserError
from stages.recordings.containers.hdf5 import open_hdf5
from stages.recordings.containers.mat import open_mat
from stages.recordings.containers.netcdf import open_netcdf
from stages.recordings.containers.npy import open_npy
from stages.recordings.containers.pictures import picture_names
from stages.recordings.containers.stored import StoredArray
from stages.recordings.containers.zarr_group import open_zarr
from stages.recordings.guards.file_kind import unexpected_kind
from stages.recordings.guards.limit import current_limit

#: What containers are, for messages.
KINDS = (
    "an .npz, a folder of .npy files, a .zarr, an HDF5 file (.h5), a NetCDF file (.nc) or a MATLAB "
    "file (.mat)"
)

_ZARR = ("zarr.json", ".zgroup", ".zarray")


def is_container(path: Path) -> bool:
    """Whether `open_container` takes such a file or folder, told from its kind."""
    if path.is_dir():
        return _is_zarr(path) or any(path.glob("*.npy"))
    return path.suffix.lower() in (".npz", ".npy", ".mat") or _signature(path) in ("hdf5", "netcdf")


def open_container(path: Path, limit: int | None = None) -> Mapping[str, StoredArray]:
    """Named arrays of a file or folder; each is read when asked for.

    Parameters
    ----------
    limit : int, optional
        Bytes of memory that an array may take; `current_limit` by default.

    Raises
    ------
    UserError
        No such file, none of the kinds in `KINDS`, or a damaged one.
    """
    limit = current_limit() if limit is None else limit
    if not path.exists():
        raise UserError(f"{path} does not exist: check the path in the experiment file")
    if path.is_dir():
        if _is_zarr(path):
            return open_zarr(path, limit)
        if not any(path.glob("*.npy")):
            holds = "pictures only" if picture_names(path) else "no .npy files and is no zarr group"
            raise UserError(f"{path} holds {holds}: name {KINDS}")
        return open_npy(path, limit)
    if path.suffix.lower() == ".mat":
        return open_mat(path, limit)
    kind = _signature(path)
    if kind == "hdf5":
        return open_hdf5(path, limit)
    if kind == "netcdf":
        return open_netcdf(path, limit)
    if kind in ("zip", "npy"):
        return open_npy(path, limit)
    found = unexpected_kind(path, "")
    raise UserError(f"{path} is {found or 'no file of a known kind'}: name {KINDS}")


def _is_zarr(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _ZARR)


def _signature(path: Path) -> str | None:
    marks = {b"\x89HDF": "hdf5", b"CDF": "netcdf", b"PK": "zip", b"\x93NUMPY": "npy"}
    if not path.is_file():
        return None
    with path.open("rb") as file:
        first = file.read(8)
    return next((kind for mark, kind in marks.items() if first.startswith(mark)), None)
