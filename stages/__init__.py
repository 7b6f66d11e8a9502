"""The science: stimuli, recordings, backbones, the one readout, its solvers, and FEVE."""
