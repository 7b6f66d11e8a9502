"""Conditions: the identity of one result, which is the columns that all tables share."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from cache import UserError


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One fitted condition; None where a property does not apply (a CNN has no block).

    Parameters
    ----------
    recording : str
        Name of the recording.
    model : str
        timm name, with what was changed of it (`BackboneSettings.label`); "cnn_fullmodel" or
        "cnn_minimodel"; "cnn_vit+" and the name of the backbone that a core is trained beside; of
        a combined condition its sources, such as "resnet50:1 + vgg16:2".
    input_size : str
        Rows x columns, such as "64x128"; of such a core and its backbone "66x130+64x128".
    tuning : str
        "frozen", "last0", "last1", ..., or "full"; "core" where a core is trained beside a frozen
        backbone.
    protocol : str, optional
        How it was tuned; None where nothing was.
    tokens : str, optional
        "patch" or "cls".
    block : int, optional
        0-based block that is read; the deepest where several are.
    blocks : str, optional
        All blocks that are read, such as "3+4".
    solver : str, optional
        What fitted the readout.
    seed : int
        Seed of everything random in it.
    """

    recording: str
    model: str
    input_size: str
    tuning: str = "frozen"
    protocol: str | None = None
    tokens: str | None = None
    block: int | None = None
    blocks: str | None = None
    solver: str | None = None
    seed: int = 0

    @classmethod
    def from_row(cls, row: Mapping[Any, Any]) -> Condition:
        """Read the condition of a table's row, which may have other columns too.

        The row comes from pandas or from the csv module: null values become None, as empty texts
        do; block and seed become integers.

        Raises
        ------
        KeyError
            An identity column is absent.
        """
        given: dict[str, Any] = {
            name: None if is_null(row[name]) or row[name] == "" else row[name] for name in IDENTITY
        }
        numbers = {name: int(given[name]) for name in INTEGERS if given[name] is not None}
        return cls(**given | numbers)

    def __str__(self) -> str:
        """All that is known of it, names as they were given."""
        known = ((name, value) for name, value in self.identity().items() if value is not None)
        return ", ".join(f"{name} {value!r}" for name, value in known)

    def identity(self) -> dict[str, str | int | None]:
        """The identity columns, in the tables' order."""
        return asdict(self)

    @property
    def label(self) -> str:
        """What a person calls it, such as "FX10, cnn_fullmodel", beside others of one seed."""
        tuning = None if self.tuning == "frozen" else self.tuning
        block = None if self.blocks is None else f"block {self.blocks}"
        parts = (self.recording, self.model, self.input_size, self.tokens, tuning, block)
        return ", ".join(part for part in parts if part is not None)

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the images; those of the core where there is a backbone beside it."""
        rows, columns = self.input_size.partition("+")[0].split("x")
        return int(rows), int(columns)

    @property
    def slug(self) -> str:
        """A name fit for a folder; see `require_distinct`."""
        named = self.identity() | {"block": None, "seed": f"seed{self.seed}"}
        if self.blocks is not None:
            named["blocks"] = f"block{self.blocks}"
        return file_name("-".join(str(part) for part in named.values() if part is not None))


def file_name(text: str) -> str:
    """A name as a file may have it; names that differ may become one, see `require_distinct`."""
    return "".join(c if c.isalnum() or c in "-_.+" else "_" for c in text)


def require_distinct(names: Mapping[str, str]) -> None:
    """Refuse names that one folder cannot keep apart, and names that no file can have.

    Parameters
    ----------
    names : mapping of str to str
        What is to be stored, as people call it, and the name it is stored under.

    Raises
    ------
    UserError
        Two have the same name on some file system, where letters of both cases are the same; or a
        name is too long.
    """
    stored: dict[str, str] = {}
    for said, name in names.items():
        if len(name.encode()) > LONGEST:
            raise UserError(
                f"{said}: its files would be named {name[:40]}..., {len(name.encode())} bytes, and "
                f"no name may have more than {LONGEST}: give the recording a shorter name"
            )
        one = stored.setdefault(unicodedata.normalize("NFKC", name).casefold(), said)
        if one != said:
            raise UserError(
                f"{one} and {said} would both be stored under {name}: give one of them another name"
            )


#: Bytes of a stored name. File systems take 255, of which endings need some.
LONGEST = 200

#: Between the sources of a combined condition, which stand in place of its model.
JOINED = " + "

#: Names of the identity columns, in the tables' order.
IDENTITY = tuple(field.name for field in fields(Condition))

#: Those of them that hold integers.
INTEGERS = ("block", "seed")


def is_null(value: object) -> bool:
    """True for what a table has where there is no value: None, NaN, or the NA of pandas."""
    return value is None or type(value).__name__ == "NAType" or bool(value != value)
