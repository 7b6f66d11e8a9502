"""`vitv1 report`: figures and report.html of a run, drawn again only where its tables changed."""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path

from cache import UserError
from pipeline.report.figures.draw import FOLDER, draw_figures, read_tables, wanted_figures
from pipeline.report.page import REPORT, report_key, write_report
from pipeline.results.tables import CURVES, NEURONS, SUMMARY
from pipeline.terminal import Terminal
from stages.readouts.saved import READOUTS

PROVENANCE = "provenance.json"

#: Raised whenever the same tables give another page or other figures than before.
REPORT_VERSION = 2


def report_run(run: Path, terminal: Terminal) -> list[Path]:
    """Draw a run's figures and write its report, or leave both where they are up to date.

    Returns
    -------
    list of path
        The report and the figures (PNG).

    Raises
    ------
    UserError
        The run has no results yet.
    """
    if not (run / NEURONS).exists() or not (run / SUMMARY).exists():
        raise UserError(f"{run} has no results: run vitv1 fit first, or correct run.output")
    key = run_key(run)
    report = run / REPORT
    if report_key(report) == key:
        return [report, *sorted((run / FOLDER).glob("*.png"))]
    tables = read_tables(run)
    n_figures = len(list(wanted_figures(tables)))
    with terminal.bar("drawing figures", total=n_figures, unit="figures") as drawn:
        figures = draw_figures(tables, progress=drawn)
    for left in (run / FOLDER).iterdir():
        if left.with_suffix(".png") not in figures:
            left.unlink()
    path = run / PROVENANCE
    provenance = json.loads(path.read_text()) if path.exists() else {}
    write_report(tables, figures, provenance, key=key)
    return [report, *figures]


def run_key(run: Path) -> str:
    """Hash of everything that figures and report are made from."""
    content = hashlib.sha256(f"{REPORT_VERSION} {version('vitv1')}".encode())
    for name in (NEURONS, SUMMARY, CURVES, PROVENANCE):
        path = run / name
        content.update(name.encode())
        content.update(path.read_bytes() if path.exists() else b"")
    for attributes in sorted((run / READOUTS).glob("*/zarr.json")):
        content.update(attributes.read_bytes())
    return content.hexdigest()
