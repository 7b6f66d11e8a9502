"""Names that others import from `stages.networks`."""

from .from_pixels import FromPixels as FromPixels
from .record import backbone_record as backbone_record
from .vit import ViTReadouts as ViTReadouts
from .vit import recorded_backbone as recorded_backbone
