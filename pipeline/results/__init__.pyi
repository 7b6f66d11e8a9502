"""Names that other packages import from `pipeline.results`."""

from .names import describe as describe
from .names import varying as varying
from .provenance import PROVENANCE as PROVENANCE
from .provenance import hardware as hardware
from .provenance import now as now
from .provenance import publishable as publishable
from .provenance import same_settings as same_settings
from .provenance import versions as versions
from .provenance import write_provenance as write_provenance
from .statistics import SERIES as SERIES
from .statistics import Difference as Difference
from .statistics import best_blocks as best_blocks
from .statistics import bootstrap_interval as bootstrap_interval
from .statistics import paired_difference as paired_difference
from .statistics import rows_of as rows_of
from .statistics import valid as valid
from .tables import CURVES as CURVES
from .tables import NEURONS as NEURONS
from .tables import SUMMARY as SUMMARY
from .tables import read_curves as read_curves
from .tables import read_neurons as read_neurons
from .tables import read_summary as read_summary
from .tables import summary_rows as summary_rows
from .tables import tabulated as tabulated
from .tables import write_if_changed as write_if_changed
from .tables import write_tables as write_tables
