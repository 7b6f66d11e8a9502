"""Names that people import from `stages`."""

from .model import Model as Model
from .model import load_model as load_model
