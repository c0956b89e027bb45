"""``batchscale report`` and ``batchscale steps-to-result``: from the record alone."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The commands ``report`` and ``steps-to-result``."""
    report = commands.add_parser("report", help="rebuild the report from the record alone")
    report.add_argument("folder", type=Path, metavar="DIR")
    report.set_defaults(function=report_command)

    steps = commands.add_parser("steps-to-result", help="steps to a goal, per batch size")
    steps.add_argument("folder", type=Path, metavar="DIR")
    steps.add_argument("--goal", type=float, metavar="X", help="default: the study's")
    steps.add_argument("--csv", type=Path, metavar="FILE", help="write the table here too")
    steps.set_defaults(function=steps_command)


def report_command(options: argparse.Namespace) -> int:
    """Rebuild report/ from the records."""
    return summarise(options.folder)


def summarise(folder: Path) -> int:
    """Print what a record says and write its report, whether or not anybody reads the former."""
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
    from experiments.analysis.summary import summary_of
    from experiments.records.store import read
    from experiments.report.terminal import print_summary
    from experiments.report.write import write_report_of

    summary = summary_of(read(folder))
    print_summary(summary)
    return _reported(write_report_of(summary, folder))


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

    record = read(options.folder)
    if record.trials.is_empty():
        raise RecordError(f"no trial is recorded yet in {options.folder}")
    print_steps_to_result(record, options.goal)
    if options.csv:
        write_steps_to_result_csv(record, options.goal, options.csv)
        print(f"written: {options.csv}")
    return 0
