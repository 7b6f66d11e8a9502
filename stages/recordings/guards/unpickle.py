"""Unpickling that runs no code: arrays of plain types, numbers, texts and containers."""

from __future__ import annotations

import io
import pickle
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cache import UserError
from stages.recordings.guards.limit import check_size

#: Bytes that one instruction of a pickle takes at most, about: an empty list or dict.
INSTRUCTION = 64

_PLAIN = re.compile(r"b1|[iufc][0-9]{1,2}|[SU][0-9]{1,9}|O8?")


def unpickled_array(content: bytes, where: str, limit: int) -> NDArray[Any]:
    """The array of an object array's pickle, as `_unpickled` reads it."""
    loaded = _unpickled(content, where, limit)
    if not isinstance(loaded, _Array):
        raise pickle.UnpicklingError("it is no array")
    return loaded.array


def unpickled_arrays(content: bytes, where: str, limit: int) -> dict[str, NDArray[Any]]:
    """The arrays of a pickled dict by their names, as `_unpickled` reads it; others are left out.

    Raises as `_unpickled` does.
    """
    loaded = _unpickled(content, where, limit)
    if not isinstance(loaded, dict):
        raise pickle.UnpicklingError("it is no dict of arrays")
    return {
        name.decode() if isinstance(name, bytes) else str(name): value.array
        for name, value in loaded.items()
        if isinstance(value, _Array)
    }


def _unpickled(content: bytes, where: str, limit: int) -> Any:
    """What a pickle holds; arrays in it are objects that `np.asarray` takes.

    Nothing of numpy's own is called with what the file says: numpy trusts sizes and flags there.

    Raises
    ------
    UserError
        Anything but plain arrays, numbers, texts, lists, tuples and dicts, or too many of them.
    Exception
        Damaged bytes make the parsers raise nearly anything.
    """
    count = 0
    for instruction, argument, _ in pickletools.genops(content):
        count += 1
        # The table of what a pickle refers back to is as long as its largest number.
        if instruction.name.endswith("PUT") and int(argument or 0) > count:
            raise pickle.UnpicklingError(f"number {argument} refers to nothing")
    check_size(len(content) + count * INSTRUCTION, where, limit)
    return _Unpickler(content, where).load()


class _Array:
    """An array that is being unpickled."""

    array: NDArray[Any]

    def __setstate__(self, state: tuple[Any, tuple[int, ...], _DType, bool, Any]) -> None:
        _, shape, dtype, by_columns, stored = state
        if dtype.plain.kind == "O":
            flat = np.empty(len(stored), dtype=object)
            for i, entry in enumerate(stored):
                flat[i] = entry
        else:
            flat = np.frombuffer(stored, dtype.plain)
        self.array = flat.reshape(shape, order="F" if by_columns else "C")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.array, dtype=dtype, copy=copy)


class _DType:
    """The type of an array that is being unpickled: its name, and the order of its bytes."""

    def __init__(self, name: str) -> None:
        if not _PLAIN.fullmatch(name):
            raise pickle.UnpicklingError(f"type {name!r} is none of numbers or texts")
        self.plain = np.dtype(name)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.plain = self.plain.newbyteorder(state[1])


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, where: str) -> None:
        super().__init__(io.BytesIO(content))
        self._where = where

    def find_class(self, module: str, name: str) -> Callable[..., Any]:
        """The stand-in for a class or function that a pickle names."""
        found: dict[str, Callable[..., Any]] = {
            "numpy.multiarray._reconstruct": self._array,
            "numpy.multiarray.scalar": self._scalar,
            "numpy.numeric._frombuffer": self._buffer,
            "numpy.ndarray": self._array,
            "numpy.dtype": self._dtype,
            # Bytes in pickles of protocol 2, which numpy wrote for long.
            "_codecs.encode": self._encode,
            "__builtin__.bytes": self._encode,
        }
        # numpy 2 has renamed `numpy.core`.
        whole = f"{re.sub(r'^numpy[.]_?core[.]', 'numpy.', module)}.{name}"
        if whole not in found:
            raise UserError(
                f"{self._where} names {module}.{name}, and only arrays, numbers, texts, lists, "
                "tuples and dicts are unpickled: do not trust the file, or save it without"
            )
        return found[whole]

    def _array(self, *_: Any) -> _Array:
        return _Array()

    def _buffer(self, stored: Any, dtype: _DType, shape: tuple[int, ...], order: str) -> _Array:
        array = _Array()
        array.__setstate__((1, shape, dtype, order == "F", stored))
        return array

    def _dtype(self, name: str, *_: Any) -> _DType:
        return _DType(name)

    def _scalar(self, dtype: _DType, stored: bytes) -> Any:
        return np.frombuffer(stored, dtype.plain)[0]

    def _encode(self, text: str = "", _: str = "") -> bytes:
        return text.encode("latin1")
