"""Names that other packages import from `stages.stimuli`."""

from .preprocessing import Preprocessing as Preprocessing
from .preprocessing import resolve_crop as resolve_crop
from .settings import ExpectedImages as ExpectedImages
from .settings import StimuliSettings as StimuliSettings
from .stimuli import Stimuli as Stimuli
from .stimuli import StimulusDigest as StimulusDigest
from .stimuli import digest as digest
from .stimuli import stimuli_from_array as stimuli_from_array
