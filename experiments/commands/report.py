"""``batchscale report`` and ``batchscale steps-to-result``: from the record alone."""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.arguments import check_output, positive
from experiments.spec.errors import first_line

if TYPE_CHECKING:
    from experiments.analysis.cost import Prices
    from experiments.analysis.search_record import Searched
    from experiments.analysis.summary import Summary

REFRESH_SECONDS = 10


def add(commands: Any) -> None:
    """The commands ``report`` and ``steps-to-result``."""
    report = commands.add_parser("report", help="rebuild the report from the record alone")
    report.add_argument("folder", type=Path, metavar="DIR")
    report.add_argument(
        "--price-per-device-hour", type=positive, metavar="P",
        help="of one device, for what reaching the goal costs (hours of a device)",
    )  # fmt: skip
    report.add_argument(
        "--plan", type=Path, metavar="FILE",
        help="seconds per step from batchscale plan --json FILE (those of the record)",
    )  # fmt: skip
    report.add_argument(
        "--ruled", type=Path, nargs="+", metavar="DIR",
        help="records of batchscale run --rule, for the regret that was measured",
    )  # fmt: skip
    report.add_argument(
        "--note", type=Path, metavar="FILE", help="a text to show on top of the page; kept in DIR"
    )
    report.add_argument(
        "--pictures", nargs="*", choices=("png", "svg", "pdf"), metavar="FORMAT",
        help="of every figure: png, svg, pdf (all; of an imported archive svg)",
    )  # fmt: skip
    report.add_argument(
        "--watch", action="store_true", help="write it again as trials end, until all have"
    )
    report.set_defaults(function=report_command)

    steps = commands.add_parser("steps-to-result", help="steps to a goal, per batch size")
    steps.add_argument("folder", type=Path, metavar="DIR")
    steps.add_argument("--goal", type=float, metavar="X", help="default: the study's")
    steps.add_argument("--csv", type=Path, metavar="FILE", help="write the table here too")
    steps.set_defaults(function=steps_command)


def report_command(options: argparse.Namespace) -> int:
    """Rebuild report/ from the records, once or until all trials that are wanted have ended.

    Raises:
      ValueError: an option where there is no single study; a note or a plan that cannot be read.
      RecordError: there is no readable record in a folder.
    """
    from experiments.records.schema import STUDY_FILE
    from experiments.report.write import keep_note

    told: dict[str, Any] = {}
    flags = ("price-per-device-hour", "plan", "ruled", "pictures")
    named = [flag for flag in flags if getattr(options, flag.replace("-", "_")) is not None]
    if {"price-per-device-hour", "plan"} & {*named}:
        told["prices"] = _prices(options)
    if options.ruled:
        from experiments.analysis.view import view_of
        from experiments.records.store import read

        told["ruled"] = tuple(view_of(read(folder)) for folder in options.ruled)
    if options.watch and not (options.folder / STUDY_FILE).is_file():
        raise ValueError(f"--watch follows a study; there is none in {options.folder}")
    _check_one_study(options.folder, named)
    if options.note:
        if (options.folder / STUDY_FILE).is_file():
            _read(options.folder, told)  # refuses what cannot be shown
        keep_note(options.note, options.folder)
    if options.watch:
        watch(options.folder, told)
    return summarise(options.folder, told, options.pictures)


def _check_one_study(folder: Path, named: Sequence[str]) -> None:
    """Refuse options of one study where ``folder`` holds something else."""
    from experiments.analysis.search_record import is_search
    from experiments.records.comparisons import is_comparison
    from experiments.records.paths import is_paths
    from experiments.records.schema import STUDY_FILE
    from experiments.records.store import read_study

    if not named:
        return
    if (folder / STUDY_FILE).is_file():
        other = is_search(read_study(folder))
    else:
        other = is_paths(folder) or is_comparison(folder)
    if other:
        raise ValueError(f"--{named[0]} has no place in {folder}, which is not one study")


def watch(
    folder: Path, told: Mapping[str, Any], wait: Callable[[float], None] = time.sleep
) -> None:
    """Write the report whenever trials were recorded, until all that are wanted have ended.

    The page reads itself again while it is watched. ``wait`` takes the seconds to the next look.
    """
    from experiments.commands.status import WATCH_SECONDS, status_text

    written = None
    while True:
        text, done = status_text(folder)
        if done:
            return
        if text != written:
            page = _write(_read(folder, told), folder, refresh=REFRESH_SECONDS)
            print(f"{text.splitlines()[0]}; report: {page}", flush=True)
            written = text
        wait(WATCH_SECONDS)


def _prices(options: argparse.Namespace) -> Prices:
    """Prices given by the options."""
    from experiments.analysis.cost import Prices, pace_of_plan

    price, plan = options.price_per_device_hour, None
    if price == math.inf:
        raise ValueError(f"--price-per-device-hour must be a finite number, got {price}")
    if options.plan is not None:
        try:
            plan = json.loads(options.plan.read_text(encoding="utf-8"))
            pace_of_plan(plan)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"--plan {options.plan} cannot be used: {first_line(error)}"
            ) from error
    return Prices(price, plan)


def summarise(
    folder: Path,
    told: Mapping[str, Any] | None = None,
    pictures: Sequence[str] | None = None,
) -> int:
    """Print what a record says and write its report, whether or not anybody reads the former.

    Args:
      told: fields of the `Summary` of one study that options give.
      pictures: formats of its figures, as `write_report_of` takes them.
    """
    from experiments.analysis.search_record import Searched
    from experiments.records.comparisons import is_comparison
    from experiments.records.paths import is_paths

    if is_paths(folder):
        from experiments.report.paths import write_paths_report

        return _reported(write_paths_report(folder))
    if is_comparison(folder):
        from experiments.analysis.compare import read_compared
        from experiments.report.comparison import print_comparison, write_comparison_report

        compared = read_compared(folder)
        print_comparison(compared)
        return _reported(write_comparison_report(folder, compared))
    from experiments.report.terminal import print_summary

    found = _read(folder, told or {})
    if not isinstance(found, Searched):
        print_summary(found)
    return _reported(_write(found, folder, pictures=pictures))


def _write(
    found: Summary | Searched,
    folder: Path,
    *,
    refresh: int = 0,
    pictures: Sequence[str] | None = None,
) -> Path:
    from experiments.analysis.search_record import Searched
    from experiments.report.search_page import write_search_report
    from experiments.report.write import write_report_of

    if isinstance(found, Searched):
        return write_search_report(found, folder, refresh)
    return write_report_of(found, folder, refresh=refresh, pictures=pictures)


def _read(folder: Path, told: Mapping[str, Any]) -> Summary | Searched:
    """Read what a record holds, with what options say of it.

    Raises:
      ValueError: records of ``--ruled`` cannot be compared with it.
    """
    from experiments.analysis.regret import measured_regret
    from experiments.analysis.search_record import Searched, is_search
    from experiments.analysis.summary import summarise as summarised
    from experiments.records.store import read

    record = read(folder)
    if is_search(record.study):
        return Searched.of(record)
    summary = dataclasses.replace(summarised(record), **told)
    for ruled in summary.ruled:
        measured_regret(summary.view, ruled)
    return summary


def _reported(page: Path) -> int:
    """Say where the report is, on standard error where standard output is closed."""
    print(f"report: {page}", flush=True)
    if getattr(sys.stdout, "error", None):
        print(f"batchscale: standard output is closed; report: {page}", file=sys.stderr)
    return 0


def steps_command(options: argparse.Namespace) -> int:
    """The table on the terminal, and as CSV."""
    from experiments.records.store import RecordError, read
    from experiments.report.terminal import print_steps_to_result, write_steps_to_result_csv

    check_output(options.csv)
    record = read(options.folder)
    if record.trials.is_empty():
        raise RecordError(f"no trial is recorded yet in {options.folder}")
    print_steps_to_result(record, options.goal)
    if options.csv:
        write_steps_to_result_csv(record, options.goal, options.csv)
        print(f"written: {options.csv}")
    return 0
