"""Executors: tasks on this machine's cores and GPUs, or on a cluster's.

The names stand in `__init__.pyi`, and each is loaded when it is first used: settings, and what a
machine has, without torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
