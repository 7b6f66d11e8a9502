"""Figures and `report.html` of a run, drawn again only where its results changed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from cache import UserError
from pipeline.report.key import FIGURES_FOLDER, REPORT, report_key, run_key
from pipeline.results.provenance import read_provenance
from pipeline.results.tables import (
    NEURONS,
    SUMMARY,
    read_curves,
    read_neurons,
    read_resolution,
    read_summary,
)
from pipeline.terminal import Terminal
from stages.readouts import DRAWN, damage, manifest_path, write_manifest


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
    if report_key(report) == key and damage(run, DRAWN) is None:
        there = sorted((run / FIGURES_FOLDER).glob("*.*"))
        if not manifest_path(run, DRAWN).exists():
            # Drawn by vitv1 0.1; a folder of others stays as it is.
            with suppress(OSError):
                write_manifest(run, DRAWN, key, (report, *there))
        return [report, *(path for path in there if path.suffix == ".png")]
    # Drawing imports what an up-to-date report does not need.
    from pipeline.report.figures.draw import FIGURES, FORMER, Tables, draw_figures, wanted_figures
    from pipeline.report.page import write_report

    tables = Tables(
        run, read_neurons(run), read_summary(run), read_curves(run), read_resolution(run)
    )
    n_figures = len(list(wanted_figures(tables)))
    with terminal.bar("drawing figures", total=n_figures, unit="figures") as drawn:
        figures = draw_figures(tables, progress=drawn)
    for stem in FORMER | set(FIGURES) - {figure.stem for figure in figures}:
        # Of figures that earlier results had; whatever else lies there is somebody's.
        for left in (run / FIGURES_FOLDER / f"{stem}.{kind}" for kind in ("png", "svg")):
            if left.is_file() or left.is_symlink():
                left.unlink()
    write_report(tables, figures, read_provenance(run), key=key)
    vectors = [path.with_suffix(".svg") for path in figures]
    write_manifest(run, DRAWN, key, (report, *figures, *vectors))
    return [report, *figures]
