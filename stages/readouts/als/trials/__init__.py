"""The steps of the default solver on the trials themselves, neuron by neuron.

Sufficient statistics grow with the square of positions times components, and are those of all
trials. On the trials, tokens are pooled with a neuron's space, or projected on its channels: that
serves fine grids, and neurons that each have trials of their own.
"""
