"""The quickstart study by this engine and by that of another commit, row by row, in turn.

    git worktree add ../before COMMIT
    python -m benchmarks.before_after ../before [--batch-sizes B ...] [--whole] [--pairs N]

A row is a study of one batch size, quickstart as one quasi-random search of 24 trials to full
length, in a folder of its own; ``--whole`` measures the study of all batch sizes too. An engine's
half of a pair is one process, which runs a small study before the first row, so that all imports
are done; nothing compiled is kept between rows. The two engines take turns, and so do their places
in a pair: what another program takes from the machine hits both. The pairs are added to those
already in benchmarks/results/before_after.json unless they are of other commits, so that rows may
be measured a few at a time.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS, write_results

HERE = Path(__file__).parents[1]
NAME = "before_after"
WHOLE = "whole study"
ROWS = """
import dataclasses, json, sys
import jax
jax.config.update("jax_enable_compilation_cache", False)
from benchmarks import study_speed
try:
    from experiments.spec.study import resolve
except ImportError:  # before studies were resolved
    resolve = lambda study: study
def study(**changes):
    return resolve(dataclasses.replace(study_speed.STUDY, seeds=(0,), **changes))
study_speed.engine(study(batch_sizes=(64,), trials=1), "scan")
for size in json.loads(sys.argv[1]):
    if size is None:
        found = study_speed.engine(study())
    else:
        found = study_speed.engine(study(batch_sizes=(size,)), "scan")
    print("seconds", found, flush=True)
"""
"""What a process measures, in the words of both commits."""


def row_seconds(tree: Path, rows: Sequence[PairedSeconds]) -> list[float]:
    """Seconds of these rows by the code of ``tree``."""
    sizes = json.dumps([None if row.batch_size == WHOLE else row.batch_size for row in rows])
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    command = [sys.executable, "-P", "-c", ROWS, sizes]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment, cwd=tree
    )
    lines = [line.split() for line in done.stdout.splitlines()]
    return [round(float(words[1]), 3) for words in lines if words[:1] == ["seconds"]]


@dataclasses.dataclass
class PairedSeconds:
    """The seconds of a batch size, a number a pair.

    Attributes:
      batch_size: or `WHOLE`.
      before, after: seconds.
    """

    batch_size: int | str
    before: list[float]
    after: list[float]

    @property
    def place(self) -> float:
        """Among the rows: by batch size, the whole study last."""
        return float("inf") if self.batch_size == WHOLE else float(self.batch_size)

    @property
    def ratio(self) -> float:
        """The median over pairs of before / after."""
        return statistics.median(b / a for b, a in zip(self.before, self.after, strict=True))

    def described(self) -> dict[str, Any]:
        """Plain data."""
        row = {"before_seconds": self.before, "after_seconds": self.after}
        return {"batch_size": self.batch_size, **row, "before_over_after": round(self.ratio, 3)}


def commit_of(tree: Path) -> str:
    """The commit of a checkout."""
    command = ["git", "-C", str(tree), "rev-parse", "--short=12", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def known(commits: dict[str, str]) -> dict[int | str, PairedSeconds]:
    """The rows that were measured before, of these commits."""
    path = RESULTS / f"{NAME}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    if {name: found.get(name) for name in commits} != commits:
        return {}
    return {
        row["batch_size"]: PairedSeconds(
            row["batch_size"], row["before_seconds"], row["after_seconds"]
        )
        for row in found["rows"]
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("before", type=Path, help="a checkout of the commit to compare with")
    parser.add_argument("--batch-sizes", type=int, nargs="*", default=[2**k for k in range(11)])
    parser.add_argument("--whole", action="store_true", help="the study of all batch sizes too")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args(arguments)
    trees = {"before": options.before.resolve(), "after": HERE}
    commits = {name: commit_of(tree) for name, tree in trees.items()}
    rows = known(commits)
    sizes = [*options.batch_sizes, *([WHOLE] if options.whole else [])]
    measured = [rows.setdefault(size, PairedSeconds(size, [], [])) for size in sizes]
    ordered = sorted(rows.values(), key=lambda row: row.place)
    for _ in range(options.pairs):
        # The engine that went second in the last pair goes first.
        names = sorted(trees, reverse=len(measured[0].before) % 2 == 0)
        found = {name: row_seconds(trees[name], measured) for name in names}
        for row, before, after in zip(measured, found["before"], found["after"], strict=True):
            row.before.append(before)
            row.after.append(after)
            print(f"{row.batch_size}: before {before} s, after {after} s", flush=True)
        write_results(NAME, {**commits, "rows": [row.described() for row in ordered]})
    for row in ordered:
        print(f"{row.batch_size}: {row.ratio:.3f} over {len(row.before)} pairs")


if __name__ == "__main__":
    main()
