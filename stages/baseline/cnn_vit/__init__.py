"""The convolutional core beside cached tokens of a frozen ViT, both read by one readout."""
