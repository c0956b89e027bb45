"""Rebuilds ``report/`` of a study from its record alone. Imports no jax."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.analysis.question import StudyRecord
from experiments.analysis.summary import Summary, summary_of
from experiments.records.files import FULL, DiskError, write_whole
from experiments.records.schema import STUDY_FILE
from experiments.report.pictures import ENDINGS, side_by_side
from experiments.runtime.platform import process_exists
from experiments.spec.errors import first_line

if TYPE_CHECKING:
    import polars as pl

    from experiments.report.figure import Figure

Progress = Callable[[str, int, int], None]
"""Called as progress(what is being done, parts done, parts in all)."""

REPORT_FOLDER = "report"
PAGE = "index.html"
NOTE = "note.md"
"""Beside study.json: a user's words, shown on top of the page."""
_BUILDING = f".{REPORT_FOLDER}-"


def write_report(folder: Path | str, progress: Progress | None = None) -> Path:
    """Writes ``folder/report/`` and returns the path of its ``index.html``.

    ``index.html`` is self-contained; beside it lie ``figures/*.png|svg|pdf`` and ``data/*.csv``.
    All is built in a new folder and then takes the place of the old files one by one, each whole,
    the page last: a reader finds the old page or the new one at any moment, and a report that
    was interrupted while it was built leaves the old one as it was.

    Raises:
      RecordError: there is no readable record in ``folder``.
      DiskError: the folder cannot be written.
    """
    from experiments.records.store import read

    folder = Path(folder)
    return write_report_of(read(folder), folder, progress)


def write_report_of(
    record: StudyRecord | Summary,
    folder: Path | str,
    progress: Progress | None = None,
    *,
    refresh: int = 0,
    pictures: Sequence[str] | None = None,
) -> Path:
    """`write_report` of a record that is already read, or already summarised.

    ``refresh``: seconds after which the page reads itself again, 0 for never. ``pictures``: of
    `pictures.ENDINGS`, the formats of every figure; all of a study's, of an archive's, which may
    hold many workloads, SVG alone.
    """
    summary = summary_of(record)
    if pictures is None:
        pictures = ("svg",) if summary.question.imported else ENDINGS
    shown = _Shown(shlex.quote(str(folder)), note_of(Path(folder)), refresh, tuple(pictures))
    return replace_report(
        folder, lambda target: _build(summary, target, shown, progress or _silent)
    )


def keep_note(note: Path, folder: Path) -> None:
    """Copy a text into the record of a study, for this report and every later one.

    Raises:
      ValueError: it cannot be read as text, or ``folder`` holds no single study.
    """
    if not (folder / STUDY_FILE).is_file():
        raise ValueError(f"--note is shown in the report of a study; there is none in {folder}")
    try:
        text = note.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"--note must be a text file in UTF-8, got {note}: {first_line(error)}"
        ) from error
    with _disk_errors(folder):
        write_whole(folder / NOTE, text.encode())


@dataclasses.dataclass(frozen=True)
class _Shown:
    """Parts of a page beside the record: the keywords of `page.page`."""

    folder: str
    note: str
    refresh: int
    pictures: tuple[str, ...]


def note_of(folder: Path) -> str:
    """The text that is kept in a record; "" where there is none."""
    path = folder / NOTE
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def replace_report(
    folder: Path | str, build: Callable[[Path], None], command: str | None = None
) -> Path:
    """``folder/report/`` as ``build(empty folder)`` fills it; returns its ``index.html``.

    What a report that was killed has left behind is removed. ``command`` writes it again, where
    ``batchscale report`` does not.
    """
    folder = Path(folder)
    building = folder / f"{_BUILDING}{os.getpid()}"
    with _disk_errors(folder, command):
        _remove_leftovers(folder)
        try:
            building.mkdir(parents=True)
            with side_by_side():
                build(building)
            _publish(building, folder / REPORT_FOLDER)
        finally:
            shutil.rmtree(building, ignore_errors=True)
    return folder / REPORT_FOLDER / PAGE


@contextlib.contextmanager
def _disk_errors(folder: Path, command: str | None = None) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else first_line(error)
        advice = "free some space; then " if error.errno in FULL else ""
        raise DiskError(
            f"the report in {folder} cannot be written ({reason}); the record is whole: {advice}"
            f"{command or shlex.join(['batchscale', 'report', str(folder)])} writes it"
        ) from error


def _remove_leftovers(folder: Path) -> None:
    """The folders in which processes that are gone were building."""
    for path in folder.glob(f"{_BUILDING}*"):
        pid = path.name.removeprefix(_BUILDING).partition("-")[0]
        if not pid.isdigit() or int(pid) == os.getpid() or not process_exists(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _publish(new: Path, place: Path) -> None:
    """Every file of ``new`` into its place, the page last; then what is not of the new report
    goes."""
    place.mkdir(exist_ok=True)
    names = sorted(path.relative_to(new) for path in new.rglob("*") if path.is_file())
    names.sort(key=lambda name: name == Path(PAGE))
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(new / name, place / name)
    for path in sorted(place.rglob("*"), reverse=True):  # a folder after what lies in it
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.rmdir()  # where it is empty
        elif path.relative_to(place) not in names:
            path.unlink()


def _build(summary: Summary, target: Path, shown: _Shown, progress: Progress) -> None:
    from experiments.report.figure import KEY
    from experiments.report.figures import FIGURES, drawn_in_turn
    from experiments.report.page import page
    from experiments.report.tables import csv_table
    from experiments.report.trials import trials_table

    progress("numbers", 0, 1)
    figures = []
    for figure in drawn_in_turn(summary):
        figures.append(figure)
        progress(figure.name, len(figures), max(len(FIGURES), len(figures)) + 2)
        steps = figure.name == "steps_to_result"
        table = csv_table(summary) if steps else figure.table
        write_figure(figure, target, table, shown.pictures)
    total = max(len(FIGURES), len(figures)) + 2
    progress("page", total - 1, total)
    write_csv(trials_table(summary).drop(KEY), target / "data" / "trials.csv")
    text = page(summary, figures, **dataclasses.asdict(shown))
    (target / PAGE).write_text(text, encoding="utf-8")
    progress("done", total, total)


def write_figure(
    figure: Figure,
    target: Path,
    table: pl.DataFrame | None = None,
    pictures: Sequence[str] = ENDINGS,
) -> None:
    """``figures/NAME.png|svg|pdf`` and ``data/NAME.csv`` under ``target``."""
    from experiments.report.figures import printed
    from experiments.report.pictures import draw

    for folder in ("figures", "data"):
        (target / folder).mkdir(exist_ok=True)
    if pictures:
        draw(printed(figure), target / "figures" / figure.name, pictures)
    written = figure.table if table is None else table
    write_csv(written, target / "data" / f"{figure.name}.csv")


def write_csv(table: pl.DataFrame, path: Path | str) -> None:
    """The table as CSV in which no text is a formula to a spreadsheet."""
    from experiments.records.exchange.tables import escaped

    escaped(table.lazy()).collect().write_csv(path)


def _silent(what: str, done: int, total: int) -> None:
    del what, done, total
