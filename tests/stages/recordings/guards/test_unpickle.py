"""Pickles of strangers: plain arrays come through, and nothing else does."""

from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.recording_files import ragged

from cache import UserError
from stages.recordings.guards.unpickle import unpickled_array

LIMIT = 10**6


def read(content: bytes) -> Any:
    return unpickled_array(content, "ss_all.npy of mouse.npz", LIMIT)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_arrays_numbers_texts_and_containers_come_through(protocol: int) -> None:
    grid = np.arange(6, dtype=">f4").reshape(2, 3)
    entries = [
        grid, np.asfortranarray(grid), np.empty((0, 3)), np.float64(1.5), np.int16(3), np.bool_(1),
        "a", "née", b"\xff", None, True, 3, 0.5, [grid, (1, 2)], {"a": [grid]}, np.str_("train"),
        ragged([grid, grid[:1]]), np.array(["x", "yy"]),
    ]  # fmt: skip
    back = read(pickle.dumps(ragged(entries), protocol=protocol))
    assert back.shape == (len(entries),) and back.dtype == object
    for i in (0, 1, 2, 17):
        np.testing.assert_array_equal(np.asarray(back[i]), entries[i])
        assert np.asarray(back[i]).dtype == np.asarray(entries[i]).dtype
    assert list(back[3:13]) == entries[3:13] and back[15] == "train"
    np.testing.assert_array_equal(np.asarray(back[13][0]), grid)
    np.testing.assert_array_equal(np.asarray(np.asarray(back[16])[1]), grid[:1])


class Call:
    """A pickle of it calls a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile(trap: Path) -> dict[str, Any]:
    return {
        "system": Call(os.system, f"touch {trap}"),
        "eval": Call(eval, f"open({str(trap)!r}, 'w')"),
        "numpy's own files": Call(np.memmap, str(trap), "u1", "w+", 0, (1,)),
        "numpy's own loader": Call(np.load, str(trap), None, True),
        "a subclass": np.ma.masked_array([1.0]),
        "a path": trap,
    }


@pytest.mark.parametrize("attack", list(hostile(Path("trap"))))
@pytest.mark.parametrize("protocol", [2, 4])
def test_nothing_else_is_called(tmp_path: Path, attack: str, protocol: int) -> None:
    whole = ragged([hostile(tmp_path / "trap")[attack], None])
    with pytest.raises(UserError, match=r"ss_all\.npy of mouse\.npz names .*only arrays, numbers"):
        read(pickle.dumps(whole, protocol=protocol))
    assert list(tmp_path.iterdir()) == []


def forged(dtype: str, state: bytes, stored: bytes, shape: bytes = b"K\x08\x85") -> bytes:
    """An array of 8 entries whose type, state of the type and content are as given."""
    named = b"cnumpy\ndtype\n" + b"X" + struct.pack("<I", len(dtype)) + dtype.encode() + b"\x85R"
    whole = b"\x80\x04cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R"
    return whole + b"(K\x01" + shape + named + state + b"\x89" + stored + b"tb."


def test_what_is_forged_here_is_an_array_otherwise() -> None:
    np.testing.assert_array_equal(read(forged("f8", b"", b"C\x40" + bytes(64))), np.zeros(8))


@pytest.mark.parametrize(
    "content",
    [
        # Fewer objects than the shape says: numpy reads beyond the list.
        forged("O", b"", b"]"),
        forged("f8", b"", b"C\x03abc"),
        forged("f8", b"", b"C\x03abc", shape=b"\x8a\x08" + b"\xff" * 7 + b"\x7f\x85"),
        # Pointers from bytes, by flags that say that there are none.
        forged("O", b"(K\x03X\x01\x00\x00\x00|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb",
               b"C\x08" + b"A" * 8, shape=b"K\x01\x85"),
        forged("V8", b"", b"C\x01A"),
        forged("M8[s]", b"", b"C\x01A"),
        pickle.dumps([1, 2]),
        pickle.dumps(ragged([1, 2]))[:-20],
        b"",
    ],
)  # fmt: skip
def test_forged_and_damaged_arrays_are_refused(content: bytes) -> None:
    with pytest.raises((ValueError, TypeError, pickle.UnpicklingError, AttributeError)):
        read(content)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04" + b"]" * 100_000 + b".",
        b"\x80\x04Nr" + struct.pack("<I", 2**32 - 2) + b".",
    ],
    ids=["lists", "memo"],
)
def test_a_small_pickle_takes_little_memory(content: bytes) -> None:
    with pytest.raises((UserError, pickle.UnpicklingError), match=r"refers to nothing|of memory"):
        read(content)


def test_numpy_would_have_run_it(tmp_path: Path) -> None:
    """The attack is one: the same file does its work in numpy's hands."""
    file = io.BytesIO()
    np.save(file, ragged([Call(os.system, f"touch {tmp_path / 'trap'}"), None]))
    np.load(io.BytesIO(file.getvalue()), allow_pickle=True)
    assert (tmp_path / "trap").exists()
