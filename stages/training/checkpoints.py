"""Checkpoints of training, and weights that are kept of finished training."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import UserError, atomic_write, replaced

if TYPE_CHECKING:
    import torch

Weights = dict[str, "torch.Tensor"]

#: Raised whenever a state that is saved means something else than before.
CHECKPOINT_FORMAT = 3

#: Formats whose files do not end in a checksum; those of format 2 are read.
_UNSEALED = (None, 1, 2)

#: Stands before the sha256 at a checkpoint's end.
_SEAL = b"vitv1 sha256 "

#: Letters of its key in the name of a file of kept weights.
KEY_LETTERS = 12


@dataclass(frozen=True)
class Checkpoint:
    """A training state on disk, with its sha256, and beside it the state of one epoch before.

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
        """Keep tensors, numbers, texts, and containers of them, and the state before.

        A killed process leaves one of the two whole, and so does a power cut.
        """
        import torch

        # One file per process: where a worker is thought dead and is not, two may train the same.
        own = self.path.with_name(f"{self.path.name}.{socket.gethostname()}-{os.getpid()}.new")
        with replaced(self.path, temporary=own, durable=True) as file:
            torch.save({"format": CHECKPOINT_FORMAT, "key": self.key, "state": dict(state)}, file)
            file.flush()
            file.write(_SEAL + _sha256(own, own.stat().st_size))
            with contextlib.suppress(FileNotFoundError):
                self.path.replace(self._before)

    def load(self) -> dict[str, Any] | None:
        """The last saved state that is whole, on the CPU, or None where there is none.

        A damaged file is put aside, under a name that ends in ".damaged", with a warning.

        Raises
        ------
        UserError
            A state of other settings or of another version.
        """
        for path in (self.path, self._before):
            if not path.exists():
                continue
            try:
                return self._read(path)
            except _Damaged as error:
                aside = path.with_name(f"{path.name}.damaged")
                path.replace(aside)
                warnings.warn(
                    f"{path} is damaged ({error}) and lies in {aside.name} now: training goes on "
                    "from the checkpoint before, or from the start where there is none",
                    stacklevel=2,
                )
        return None

    def remove(self) -> None:
        """Delete it, the one before, damaged ones, and what killed processes left."""
        for path in (self.path, *self.path.parent.glob(f"{self.path.name}.*")):
            path.unlink(missing_ok=True)

    @property
    def _before(self) -> Path:
        return self.path.with_name(f"{self.path.name}.before")

    def _read(self, path: Path) -> dict[str, Any]:
        # torch takes seconds to import, and tasks of a plan have a checkpoint, too.
        import torch

        sealed = _is_sealed(path)
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
            key, state, number = content["key"], dict(content["state"]), content.get("format")
        except Exception as error:
            raise _Damaged(type(error).__name__) from None
        if not sealed and number not in _UNSEALED:
            raise _Damaged("its checksum is gone")
        if key != self.key:
            raise UserError(
                f"{path} is the checkpoint of a training run with other settings (its key is "
                f"{key[:12]}): delete it to train from the start"
            )
        if number not in (CHECKPOINT_FORMAT, 2):
            raise UserError(
                f"{path} is a checkpoint of another version of vitv1: delete it to train from "
                "the start, or go on with that version"
            )
        return state


class _Damaged(Exception):
    """A checkpoint that is not what was written."""


def _is_sealed(path: Path) -> bool:
    """Whether a checkpoint ends in its sha256; raises _Damaged where that is of other content."""
    n_bytes = max(0, path.stat().st_size - len(_SEAL) - hashlib.sha256().digest_size)
    with path.open("rb") as file:
        file.seek(n_bytes)
        end = file.read()
    if end.startswith(_SEAL) and end != _SEAL + _sha256(path, n_bytes):
        raise _Damaged("its checksum is of other content")
    return end.startswith(_SEAL)


def _sha256(path: Path, n_bytes: int) -> bytes:
    """Of the first bytes of a file."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while n_bytes > 0 and (part := file.read(min(n_bytes, 1 << 20))):
            found.update(part)
            n_bytes -= len(part)
    return found.digest()


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
