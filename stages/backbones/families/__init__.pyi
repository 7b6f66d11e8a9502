"""Names that others import from `stages.backbones.families`."""

from .family import Family as Family
from .known import FAMILIES as FAMILIES
from .known import FAMILY as FAMILY
from .known import family_of as family_of
from .known import has_layers_by_name as has_layers_by_name
from .known import refuse_layers as refuse_layers
from .names import model_name as model_name
from .operations import VIT_RATE as VIT_RATE
from .operations import block_operations as block_operations
from .operations import image_operations as image_operations
