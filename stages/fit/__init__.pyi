"""Names that others import from `stages.fit`."""

from .stage import Fit as Fit
