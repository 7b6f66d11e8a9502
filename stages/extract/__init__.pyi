"""Names that others import from `stages.extract`."""

from .distributed import Extractors as Extractors
from .recompute import recompute as recompute
from .run import extract as extract
from .settings import CacheSettings as CacheSettings
