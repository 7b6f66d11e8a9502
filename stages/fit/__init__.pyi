"""Names that others import from `stages.fit`."""

from .notebook import fit_recording as fit_recording
from .notebook import mean_feve as mean_feve
from .stage import Fit as Fit
