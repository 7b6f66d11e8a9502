"""Names that other packages import from `pipeline.report`."""

from .compare import DISTRIBUTIONS as DISTRIBUTIONS
from .compare import SCATTER as SCATTER
from .compare import TABLE as TABLE
from .compare import compare_runs as compare_runs
from .key import FIGURES_FOLDER as FIGURES_FOLDER
from .key import REPORT as REPORT
from .key import REPORT_VERSION as REPORT_VERSION
from .key import report_key as report_key
from .key import run_key as run_key
from .report import report_run as report_run
