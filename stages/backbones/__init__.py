"""Frozen Vision Transformers: their settings, their weights, and the tokens of every block.

The names stand in `__init__.pyi`, and each is loaded when it is first used: settings, identities,
names and costs without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
