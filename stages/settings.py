"""Types of settings that several parts share."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from cache import is_url

#: Unknown names are refused.
STRICT = ConfigDict(extra="forbid")

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class InputPath:
    """Annotation of a setting that names an input: relative paths start at the experiment file.

    Parameters
    ----------
    words : sequence of str
        Values that are no paths. A URL never is one.
    """

    words: tuple[str, ...] = ()


def _distinct(values: Any) -> Any:
    """A list as it is, refused where a value stands in it twice, or where it is empty."""
    if isinstance(values, tuple):
        if not values:
            raise PydanticCustomError("empty", "name at least one value, or drop the key")
        (value, number), *_ = Counter(values).most_common(1)
        if number > 1:
            raise PydanticCustomError(
                "distinct", "{value} is named twice: name it once", {"value": str(value)}
            )
    return values


#: Annotation of lists whose values are told apart by results.
DISTINCT = AfterValidator(_distinct)


@dataclass(frozen=True)
class Consent:
    """Annotation of a setting by which a file could run code, so that a file alone cannot give it.

    Parameters
    ----------
    flag : str
        Option of the command line by which a person consents.
    harmless : sequence of str
        Values that need none; neither does an empty one.
    """

    flag: str
    harmless: tuple[str, ...] = ()


#: Consent to what the batch system and the scheduler of an experiment are told.
CLUSTER = "--allow-cluster"


def _local(value: object) -> object:
    if is_url(str(value)):
        raise ValueError("expected a folder of this machine, not a URL")
    return value


#: A place to write to: never a URL, of which a path would make a folder of that name.
OutputPath = Annotated[Path, BeforeValidator(_local)]

#: A positive number of bytes, or a text that says one, such as "4GB" or "512MiB".
ByteSize = Annotated[pydantic.ByteSize, Field(gt=0)]


def readable(size: float) -> str:
    """A number of bytes as people say it, such as "3.1 GB"."""
    return pydantic.ByteSize(int(size)).human_readable(decimal=True, separator=" ")
