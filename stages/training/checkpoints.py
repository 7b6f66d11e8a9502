"""Checkpoints of training, and weights that are kept of finished training."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import UserError, atomic_write, replaced

if TYPE_CHECKING:
    import torch

Weights = dict[str, "torch.Tensor"]

#: Raised whenever a state that is saved means something else than before.
CHECKPOINT_FORMAT = 2

#: Letters of its key in the name of a file of kept weights.
KEY_LETTERS = 12


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

    def save(self, state: Mapping[str, Any]) -> None:
        """Put tensors, numbers, texts, and containers of them in the place of those before.

        A killed process leaves one of the two whole.
        """
        import torch

        self.path.parent.mkdir(parents=True, exist_ok=True)
        # One file per process: where a worker is thought dead and is not, two may train the same.
        own = f"{self.path.name}.{socket.gethostname()}-{os.getpid()}.new"
        with replaced(self.path, temporary=self.path.with_name(own)) as file:
            torch.save({"format": CHECKPOINT_FORMAT, "key": self.key, "state": dict(state)}, file)

    def load(self) -> dict[str, Any] | None:
        """The saved state on the CPU, or None where there is none.

        Raises
        ------
        UserError
            A state of other settings or of another version, or a file that cannot be read.
        """
        if not self.path.exists():
            return None
        # torch takes seconds to import, and tasks of a plan have a checkpoint, too.
        import torch

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
        if content.get("format") != CHECKPOINT_FORMAT:
            raise UserError(
                f"{self.path} is a checkpoint of another version of vitv1: delete it to train from "
                "the start, or go on with that version"
            )
        return state

    def remove(self) -> None:
        """Delete the file, if it is there, and what killed processes left of it."""
        for path in (self.path, *self.path.parent.glob(f"{self.path.name}.*.new")):
            path.unlink(missing_ok=True)


def trained_weights(module: torch.nn.Module) -> Weights:
    """Copies, on the CPU, of what training changes: unfrozen parameters and all buffers."""
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    return {
        name: value.detach().cpu().clone()
        for name, value in module.state_dict().items()
        if name not in frozen
    }


def restore(module: torch.nn.Module, weights: Weights) -> None:
    """Put back what `trained_weights` gave."""
    unknown = module.load_state_dict(weights, strict=False).unexpected_keys
    if unknown:
        raise ValueError(f"weights of another module: {unknown[0]}")


def kept_path(run: Path, slug: str, key: str) -> Path:
    """Where a finished condition's trained weights are kept."""
    return run / "tuned" / f"{slug}-{key[:KEY_LETTERS]}.safetensors"


def keep_weights(weights: Weights, path: Path) -> None:
    """Save weights at `kept_path`, in the place of outdated ones of the same condition."""
    import safetensors.torch

    kept = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    atomic_write(path, safetensors.torch.save(kept))
    for other in path.parent.glob(f"{path.stem[:-KEY_LETTERS]}{'?' * KEY_LETTERS}{path.suffix}"):
        if other != path:
            other.unlink()
