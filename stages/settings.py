"""Types of settings that several parts share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import pydantic
from pydantic import AfterValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

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
        for value in values:
            if values.count(value) > 1:
                raise PydanticCustomError(
                    "distinct", "{value} is named twice: name it once", {"value": str(value)}
                )
    return values


#: Annotation of lists whose values are told apart by results.
DISTINCT = AfterValidator(_distinct)

#: A positive number of bytes, or a text that says one, such as "4GB" or "512MiB".
ByteSize = Annotated[pydantic.ByteSize, Field(gt=0)]


def readable(size: float) -> str:
    """A number of bytes as people say it, such as "3.1 GB"."""
    return pydantic.ByteSize(int(size)).human_readable(decimal=True, separator=" ")
