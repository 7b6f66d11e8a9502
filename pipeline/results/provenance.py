"""Provenance: the versions, machine, settings and time that a result or a cache was made with."""

from __future__ import annotations

import json
import os
import platform
import socket
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from cache import atomic_write, public_name

#: File of a run's folder that holds its provenance.
PROVENANCE = "provenance.json"

PACKAGES = ("vitv1", "torch", "timm", "zarr", "numcodecs", "numpy", "scipy", "pandas")


def same_settings(run: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a run's provenance was written with these settings.

    Parameters
    ----------
    settings : mapping
        Of the experiment file, overrides included.
    """
    path = run / PROVENANCE
    if not path.exists():
        return False
    stored = json.loads(path.read_text())["settings"]
    return bool(stored == json.loads(_json(publishable(settings))))


def write_provenance(
    run: Path,
    *,
    settings: Mapping[str, Any],
    experiments: Sequence[Any],
    caches: Mapping[str, Any],
    seeds: Sequence[int],
    recordings: Mapping[str, str],
    device: str,
) -> None:
    """Write what a run's results were made with.

    Parameters
    ----------
    settings : mapping
        Of the experiment file, overrides included.
    experiments : sequence
        The settings of every variant, defaults filled in.
    caches : mapping
        Key of each cache, and what of it could not be checked.
    recordings : mapping
        Hash of each recording's content.
    device : str
        Where it was computed.
    """
    content = {
        "settings": publishable(settings),
        "experiments": publishable(experiments),
        "caches": caches,
        "seeds": seeds,
        "recordings": recordings,
        "versions": versions(),
        "hardware": hardware(device),
    }
    atomic_write(run / PROVENANCE, _json(content).encode())


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on; absent ones are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def hardware(device: str) -> dict[str, Any]:
    """The machine and the device that computed."""
    if device.startswith("cuda"):
        import torch

        device = torch.cuda.get_device_name(device)
    return {
        "host": socket.gethostname(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "device": device,
    }


def publishable(value: Any) -> Any:
    """Settings as they may be stored: URLs in them without user, password and query."""
    if isinstance(value, Mapping):
        return {name: publishable(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [publishable(each) for each in value]
    return public_name(value) if isinstance(value, str) else value


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _json(content: object) -> str:
    return json.dumps(content, indent=2, default=str) + "\n"
