"""The science: stimuli, recordings, backbones, the one readout, its solvers, and FEVE."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
