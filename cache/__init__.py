"""The feature cache: every block's tokens of a frozen ViT in one Zarr store.

This package knows arrays, zarr and files; it imports neither torch nor the other packages.
"""

from cache.errors import CacheError, UserError
from cache.feature_cache import Block, FeatureCache, open_cache

__all__ = ["Block", "CacheError", "FeatureCache", "UserError", "open_cache"]
