"""Names that others import from `stages.executors`."""

from .cluster_settings import ClusterSettings as ClusterSettings
from .dask import dask_executor as dask_executor
from .executor import Executor as Executor
from .executor import LocalExecutor as LocalExecutor
from .executor import shared_limit as shared_limit
from .resources import PROCESS as PROCESS
from .resources import TIMM as TIMM
from .resources import default_memory_limit as default_memory_limit
from .resources import n_cores as n_cores
from .resources import resident_memory as resident_memory
from .resources import resolve_device as resolve_device
from .resources import resolve_devices as resolve_devices
