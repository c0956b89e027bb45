"""``batchscale status``: how far a study is, from its record, while it runs or after."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.analysis.search_record import Searched
    from experiments.analysis.status import StudyStatus

WATCH_SECONDS = 2.0


def add(commands: Any) -> None:
    """The command ``status``."""
    status = commands.add_parser("status", help="how far a study is, from its record")
    status.add_argument("folder", type=Path, metavar="DIR")
    status.add_argument(
        "--watch", action="store_true", help="show it again every two seconds until it is done"
    )
    status.set_defaults(function=status_command)


def status_command(options: argparse.Namespace) -> int:
    """Print it once, or until all trials that are wanted have ended."""
    while True:
        text, done = status_text(options.folder)
        if options.watch and sys.stdout.isatty():
            print("\033[2J\033[H", end="")
        print(text, flush=True)
        if done or not options.watch:
            return 0
        time.sleep(WATCH_SECONDS)


def status_text(folder: Path) -> tuple[str, bool]:
    """Progress of a record, or of every record of a comparison; and whether it is done.

    Raises:
      RecordError: there is no record, or a damaged one.
    """
    from experiments.analysis.search_record import Searched, is_search
    from experiments.analysis.status import study_status
    from experiments.records.comparisons import is_comparison, read_comparison
    from experiments.records.schema import STUDY_FILE
    from experiments.records.store import read

    if not is_comparison(folder):
        record = read(folder)
        if is_search(record.study):
            return _search_text(Searched.of(record))
        status = study_status(record)
        return _text(record.study["study"]["name"], status), status.counted >= status.wanted
    texts: list[str] = []
    done = True
    for name in read_comparison(folder)["studies"]:
        if not (folder / name / STUDY_FILE).exists():
            texts, done = [*texts, f"{name}: not begun"], False
            continue
        text, ended = status_text(folder / name)
        texts, done = [*texts, text], done and ended
    return "\n\n".join(texts), done


def _search_text(found: Searched) -> tuple[str, bool]:
    """The same of a search over a user's own model or function."""
    ended, wanted, unit = found.ended, found.wanted, found.asked["unit"]
    lines = [f"{found.asked['name']}: {ended:,} of {wanted:,} trials ({ended / wanted:.0%})"
             + (", done" if ended >= wanted else "")]  # fmt: skip
    if len(found.plan) > 1:
        begun = len(found.rounds)
        lines.append(f"brackets: {begun} of {len(found.plan)}")
    counts = found.trials.group_by("status", "reason").len().sort("status", "reason")
    words = [
        f"{count} {(reason or status).lower()}" for status, reason, count in counts.iter_rows()
    ]
    lines.append(f"trials: {', '.join(words) or 'none yet'}")
    if (best := found.best) is not None:
        values = found.hyperparameters(best)
        said = ", ".join(f"{name} {value}" for name, value in values.items())
        lines.append(
            f"best: {best['value']:.4g} (trial {best['trial']}, {best['resource']} {unit}), {said}"
        )
    return "\n".join(lines), ended >= wanted


def _text(name: str, status: StudyStatus) -> str:
    from experiments.commands.progress import duration

    left = duration(status.seconds_left) if status.counted < status.wanted else "done"
    lines = [
        f"{name}: {status.counted:,} of {status.wanted:,} trials ({status.share:.0%})"
        + (f", {left}" if left else "")
    ]
    if status.rounds:
        made = ", ".join(f"{n} of {of} (seed {s})" for s, (n, of) in status.rounds.items())
        lines.append(f"rounds: {made}")
    lines.append(
        f"{'batch size':>10} {'trials':>11} {'infeasible':>10} {'stopped':>8} "
        f"{'fewest steps':>12} {'best value':>10} {'left':>16}"
    )
    for row in status.table.iter_rows(named=True):
        steps = "" if row["steps"] is None else f"{row['steps']:,}"
        best = "" if row["best_value"] is None else f"{row['best_value']:.4g}"
        seconds = row["seconds_left"]
        time_left = "" if not seconds else duration(seconds).removesuffix(" left")
        trials = f"{row['counted']}/{row['wanted']}"
        lines.append(
            f"{row['batch_size']:>10} {trials:>11} {row['infeasible']:>10.0%} "
            f"{row['stopped']:>8.0%} {steps:>12} {best:>10} {time_left:>16}"
        )
    return "\n".join(lines)
