"""Frozen Vision Transformers; names stand in `__init__.pyi`, many can be used without torch."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
