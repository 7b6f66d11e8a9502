"""Names that others import from `stages.baseline`."""

from .settings import BaselineSettings as BaselineSettings
from .stage import Baseline as Baseline
