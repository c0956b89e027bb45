"""Rebuilds ``report/`` of a study from its record alone. Imports no jax."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.analysis.question import Record
from experiments.analysis.summary import Summary, summary_of

if TYPE_CHECKING:
    import polars as pl

    from experiments.report.figure import Figure

Progress = Callable[[str, int, int], None]
"""Called as progress(what is being done, parts done, parts in all)."""

REPORT_FOLDER = "report"


def write_report(folder: Path | str, progress: Progress | None = None) -> Path:
    """Writes ``folder/report/`` and returns the path of its ``index.html``.

    ``index.html`` is self-contained; beside it lie ``figures/*.png|pdf`` and ``data/*.csv``. All
    is built in a new folder, which then takes the place of the old report: a reader finds the
    old one or the new one, and one that was interrupted leaves the old one as it was.

    Raises:
      RecordError: there is no readable record in ``folder``.
      OSError: the folder cannot be written.
    """
    from experiments.records.store import read

    folder = Path(folder)
    return write_report_of(read(folder), folder, progress)


def write_report_of(
    record: Record | Summary, folder: Path | str, progress: Progress | None = None
) -> Path:
    """`write_report` of a record that is already read, or already summarised."""
    return replace_report(folder, lambda target: _build(record, target, progress or _silent))


def replace_report(folder: Path | str, build: Callable[[Path], None]) -> Path:
    """``folder/report/`` as ``build(empty folder)`` fills it; returns its ``index.html``."""
    folder = Path(folder)
    building = folder / f".{REPORT_FOLDER}-{os.getpid()}"
    shutil.rmtree(building, ignore_errors=True)
    try:
        building.mkdir(parents=True)
        build(building)
        _swap(building, folder / REPORT_FOLDER)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return folder / REPORT_FOLDER / "index.html"


def _build(record: Record | Summary, target: Path, progress: Progress) -> None:
    from experiments.report.figures import FIGURES
    from experiments.report.page import page
    from experiments.report.tables import csv_table

    total = len(FIGURES) + 2
    progress("numbers", 0, total)
    summary = summary_of(record)
    figures = [draw(summary) for draw in FIGURES]
    for done, figure in enumerate(figures, start=1):
        progress(figure.name, done, total)
        steps = figure.name == "steps_to_result"
        write_figure(figure, target, csv_table(summary) if steps else figure.table)
    progress("page", total - 1, total)
    (target / "index.html").write_text(page(summary, figures), encoding="utf-8")
    progress("done", total, total)


def write_figure(figure: Figure, target: Path, table: pl.DataFrame | None = None) -> None:
    """``figures/NAME.png|pdf`` and ``data/NAME.csv`` under ``target``."""
    from experiments.report.figures import render

    for folder in ("figures", "data"):
        (target / folder).mkdir(exist_ok=True)
    for ending, content in render(figure).items():
        (target / "figures" / f"{figure.name}.{ending}").write_bytes(content)
    (figure.table if table is None else table).write_csv(target / "data" / f"{figure.name}.csv")


def _swap(new: Path, place: Path) -> None:
    """Two renames: the old report out of the way, the new one in."""
    old = new.with_name(f"{new.name}-old")
    shutil.rmtree(old, ignore_errors=True)
    if place.exists():
        place.rename(old)
    new.rename(place)
    shutil.rmtree(old, ignore_errors=True)


def _silent(what: str, done: int, total: int) -> None:
    del what, done, total
