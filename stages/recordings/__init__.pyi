"""Names that other packages import from `stages.recordings`."""

from .array_settings import SplitSettings as SplitSettings
from .formats import FORMATS as FORMATS
from .formats import chosen_neurons as chosen_neurons
from .formats import default_columns as default_columns
from .formats import plant_recording as plant_recording
from .formats import read_images as read_images
from .formats import read_recording as read_recording
from .guards.limit import check_size as check_size
from .guards.limit import reading_limit as reading_limit
from .overlap import separate_tiers as separate_tiers
from .overlap import twin_remark as twin_remark
from .reader_settings import NwbSettings as NwbSettings
from .reader_settings import SensoriumSettings as SensoriumSettings
from .recording import Recording as Recording
from .recording import check_recording as check_recording
from .recording import digest_recording as digest_recording
from .recording import normalise as normalise
from .recording_format import RecordingFormat as RecordingFormat
from .recording_format import RecordingSizes as RecordingSizes
from .recording_format import recording_path as recording_path
from .settings import ExpectedTrials as ExpectedTrials
from .settings import RecordingSettings as RecordingSettings
from .synthetic.format import synthetic_stimuli as synthetic_stimuli
from .synthetic.planted import synthetic_recording as synthetic_recording
from .synthetic_settings import Perturbation as Perturbation
from .synthetic_settings import SyntheticSettings as SyntheticSettings
