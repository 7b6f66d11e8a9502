"""Ways to fit the one readout; each takes the same data and ends in the same parameters."""
