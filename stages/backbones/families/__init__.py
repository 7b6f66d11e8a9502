"""The families of timm's backbones: a class for each, with all that depends on it.

Names, costs and the layers of parameters are told without torch and timm: only the methods that
are given a model need them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
