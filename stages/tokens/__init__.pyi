"""Names that other packages import from `stages.tokens`."""

from .cached import CachedTokens as CachedTokens
from .identity import Agreement as Agreement
from .identity import check_cache as check_cache
from .identity import is_declared as is_declared
from .identity import token_settings as token_settings
from .kinds import KINDS as KINDS
from .uncached import Uncached as Uncached
