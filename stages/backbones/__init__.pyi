"""Names that others import from `stages.backbones`."""

from .backbone import BATCH as BATCH
from .backbone import Backbone as Backbone
from .backbone import create_backbone as create_backbone
from .backbone import plan_token_shape as plan_token_shape
from .families import FAMILIES as FAMILIES
from .families import VIT_RATE as VIT_RATE
from .families import Family as Family
from .families import block_operations as block_operations
from .families import family_of as family_of
from .families import model_name as model_name
from .random_weights import randomise as randomise
from .settings import BackboneSettings as BackboneSettings
from .weights import WeightsIdentity as WeightsIdentity
from .weights import declared_identity as declared_identity
from .weights import random_identity as random_identity
