"""Names that other packages import from `stages.readouts`."""

from .readout import Readouts as Readouts
from .saved import NEURON_COLUMNS as NEURON_COLUMNS
from .saved import PREDICTIONS as PREDICTIONS
from .saved import READOUTS as READOUTS
from .saved import FittedCondition as FittedCondition
from .saved import is_saved as is_saved
from .saved import load_readouts as load_readouts
from .saved import save_condition as save_condition
from .saved import saved_attributes as saved_attributes
from .saved import saved_columns as saved_columns
from .saved import saved_curve as saved_curve
from .saved import saved_penalty as saved_penalty
from .settings import ReadoutSettings as ReadoutSettings
from .sizes import FitSize as FitSize
from .solver_protocol import Solver as Solver
from .solver_settings import AdamWSettings as AdamWSettings
from .solver_settings import ALSSettings as ALSSettings
from .solvers import SOLVERS as SOLVERS
from .solvers import fit_readouts as fit_readouts
