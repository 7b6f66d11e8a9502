"""Names that others import from `stages.finetune`."""

from .settings import FinetuneSettings as FinetuneSettings
from .stage import Finetune as Finetune
