"""The key of a report: a hash of everything that figures and page are made from."""

from __future__ import annotations

import hashlib
import re
from importlib.metadata import version
from pathlib import Path

from pipeline.results.provenance import PROVENANCE
from pipeline.results.tables import CURVES, NEURONS, RESOLUTION, SUMMARY
from stages.readouts import READOUTS

#: Raised whenever the same tables give another page or other figures than before.
REPORT_VERSION = 4

REPORT = "report.html"

#: Folder of the figures.
FIGURES_FOLDER = "figures"

_KEY = re.compile(rb'<meta name="vitv1-key" content="([0-9a-f]+)">')


def run_key(run: Path) -> str:
    """The key that a report of a run's present results has."""
    content = hashlib.sha256(f"{REPORT_VERSION} {version('vitv1')}".encode())
    for name in (NEURONS, SUMMARY, CURVES, RESOLUTION, PROVENANCE):
        path = run / name
        content.update(name.encode())
        content.update(path.read_bytes() if path.exists() else b"")
    for attributes in sorted((run / READOUTS).glob("*/zarr.json")):
        content.update(attributes.read_bytes())
    return content.hexdigest()


def report_key(report: Path) -> str | None:
    """The key that a report was written with, or None where there is none."""
    if not report.exists():
        return None
    with report.open("rb") as file:
        match = _KEY.search(file.read(2048))
    return None if match is None else match[1].decode()
