"""Where training stands, in memory and on disk."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import nn

from cache import UserError, replaced

Weights = dict[str, torch.Tensor]

#: Letters of its key in the name of a file of kept weights.
KEY_LETTERS = 12


@dataclass(kw_only=True)
class State:
    """Everything that the rest of a training run depends on.

    Parameters
    ----------
    best_weights, best_score
        Of the best epoch so far.
    stale : int
        Epochs since then.
    phase, epoch : int
        The phase at work, and epochs finished in it.
    weights, optimizer, schedule
        As the last finished epoch of the phase left them; None before its first.
    curve : list of pair of float
        Training loss and validation score of every epoch.
    seconds : float
        Wall time so far.
    """

    best_weights: Weights
    best_score: float
    stale: int = 0
    phase: int = 0
    epoch: int = 0
    weights: Weights | None = None
    optimizer: dict[str, Any] | None = None
    schedule: dict[str, Any] | None = None
    curve: list[tuple[float, float]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """A training state on disk.

    Parameters
    ----------
    path : path
        Its file; the folder is made when the first state is saved.
    key : str
        Hash of everything the result depends on: a state of another key is refused.
    """

    path: Path
    key: str

    def save(self, state: State) -> None:
        """Put a state in the place of the one before; a killed process leaves one of them whole."""
        self.write(vars(state))

    def load(self) -> State | None:
        """The saved state on the CPU, or None where there is none.

        Raises
        ------
        UserError
            A state of other settings, or a file that cannot be read.
        """
        content = self.read()
        return None if content is None else State(**content)

    def write(self, content: Mapping[str, Any]) -> None:
        """Save tensors, numbers and containers of them, as `save` does a state."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One file per process: where a worker is thought dead and is not, two may train the same.
        own = f"{self.path.name}.{socket.gethostname()}-{os.getpid()}.new"
        with replaced(self.path, temporary=self.path.with_name(own)) as file:
            torch.save({"key": self.key, "state": dict(content)}, file)

    def read(self) -> dict[str, Any] | None:
        """What was written, as `load` reads a state."""
        if not self.path.exists():
            return None
        try:
            content = torch.load(self.path, map_location="cpu", weights_only=True)
            key, state = content["key"], dict(content["state"])
        except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.path} cannot be read as a checkpoint ({type(error).__name__}): delete it "
                "to train from the start"
            ) from None
        if key != self.key:
            raise UserError(
                f"{self.path} is the checkpoint of a training run with other settings (its key is "
                f"{key[:12]}): delete it to train from the start"
            )
        return state

    def remove(self) -> None:
        """Delete the file, if it is there, and what killed processes left of it."""
        for path in (self.path, *self.path.parent.glob(f"{self.path.name}.*.new")):
            path.unlink(missing_ok=True)


def trained_weights(module: nn.Module) -> Weights:
    """Copies, on the CPU, of what training changes: unfrozen parameters and all buffers."""
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    return {
        name: value.detach().cpu().clone()
        for name, value in module.state_dict().items()
        if name not in frozen
    }


def restore(module: nn.Module, weights: Weights) -> None:
    """Put back what `trained_weights` gave."""
    unknown = module.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"weights of another module: {unknown[0]}")


def kept_path(run: Path, slug: str, key: str) -> Path:
    """Where a finished condition's trained weights are kept."""
    return run / "tuned" / f"{slug}-{key[:KEY_LETTERS]}.safetensors"


def keep_weights(weights: Weights, path: Path) -> None:
    """Save weights, in the place of an outdated outcome of the same condition.

    Parameters
    ----------
    path : path
        From `kept_path`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    with replaced(path, temporary=path.with_suffix(".new")) as file:
        file.write(safetensors.torch.save(kept))
    for other in path.parent.glob(f"{path.stem[:-KEY_LETTERS]}{'?' * KEY_LETTERS}{path.suffix}"):
        if other != path:
            other.unlink()
