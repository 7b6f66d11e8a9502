"""Tiny backbones, recordings and experiment files that tests share."""

from pathlib import Path

from support.recording_files import write_sensorium

#: One cut-down backbone per family: registers and RoPE, LayerScale, plain.
FAMILIES = {
    "dinov3": {
        "name": "vit_small_patch16_dinov3",
        "arguments": {"depth": 3, "embed_dim": 48, "num_heads": 3},
    },
    "dinov2": {
        "name": "vit_small_patch14_dinov2",
        "patch_size": 16,
        "arguments": {"depth": 3, "embed_dim": 48, "num_heads": 3},
    },
    "dino": {
        "name": "vit_small_patch16_224.dino",
        "arguments": {"depth": 3, "embed_dim": 48, "num_heads": 3},
    },
}

EXPERIMENT = """
[recording]
format = "sensorium"
path = "mouse"
name = "mouse"

[stimuli]
input_size = [32, 64]

[backbone]
name = "vit_small_patch16_dinov3"
weights = "random"
arguments = {{ depth = 3, embed_dim = 48, num_heads = 3 }}

[readout]
solver = "adamw"
adamw = {{ max_epochs = 3 }}

[run]
output = "{output}"
device = "cpu"
workers = 1
"""


def write_experiment(folder: Path, *, n_neurons: int = 6, **recording) -> Path:
    """A Sensorium-format recording and an experiment on it, all below `folder`."""
    write_sensorium(folder / "mouse", n_neurons=n_neurons, **recording)
    path = folder / "mouse.toml"
    path.write_text(EXPERIMENT.format(output=folder / "runs"))
    return path
