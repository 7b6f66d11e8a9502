"""Names that others import from `stages.extract`."""

from .cost import extraction_cost as extraction_cost
from .recompute import recompute_tokens as recompute_tokens
from .settings import CacheSettings as CacheSettings
from .task import Extraction as Extraction
from .task import check_path as check_path
from .task import extract_task as extract_task
from .task import prepare_extraction as prepare_extraction
from .task import worker_memory as worker_memory
