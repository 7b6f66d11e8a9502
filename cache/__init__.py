"""The feature cache: every block's tokens of a frozen ViT in one Zarr store.

This package knows arrays, zarr and files; it imports neither torch nor the other packages. Its
names stand in `__init__.pyi`, and each is loaded when it is first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
