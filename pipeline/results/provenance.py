"""Provenance: the versions, machine, settings and time that a result or a cache was made with."""

from __future__ import annotations

import json
import os
import platform
import socket
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cache import UserError, atomic_write, public_name
from stages.readouts import TABLES, require_intact

if TYPE_CHECKING:
    from pipeline.experiment import ExperimentFile
    from pipeline.plan.steps import Plan

#: File of a run's folder that holds its provenance.
PROVENANCE = "provenance.json"

PACKAGES = ("vitv1", "torch", "timm", "zarr", "numcodecs", "numpy", "scipy", "pandas")


def same_settings(run: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a run's provenance is intact and was written with these settings."""
    try:
        stored = read_provenance(run).get("settings")
    except (UserError, ValueError):
        return False
    return bool(stored == json.loads(_json(publishable(settings))))


def read_provenance(run: Path) -> dict[str, Any]:
    """What `write_provenance` wrote; empty where it wrote nothing."""
    require_intact(run, TABLES, PROVENANCE)
    path = run / PROVENANCE
    return dict(json.loads(path.read_text())) if path.exists() else {}


def write_provenance(file: ExperimentFile, plan: Plan) -> None:
    """Write what a run's results were made with, as far as conditions of the plan know it."""
    variants = {step.variant.cache_name: step.variant for step in plan.steps if step.variant}
    tasks = [step.task for step in plan.conditions if step.task is not None]
    content = {
        "settings": publishable(file.settings),
        "experiments": publishable(file.defaults_filled_in()),
        "caches": {
            name: {
                "key": variant.cache.opened.key,
                "not re-checked": list(variant.cache.unchecked),
                "weights adapted": variant.cache.opened.provenance.get("weights_adapted", []),
            }
            for name, variant in variants.items()
            if variant.cache.opened is not None
        },
        "remarks": list(dict.fromkeys(r for v in variants.values() for r in v.inputs.remarks())),
        "seeds": sorted({experiment.run.seed for experiment in file.variants}),
        "recordings": {task.condition.recording: task.inputs["recording"] for task in tasks},
        "versions": versions(),
        "hardware": hardware(next(iter(variants.values())).device),
    }
    atomic_write(file.output / PROVENANCE, _json(content).encode())


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on; absent ones are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
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
