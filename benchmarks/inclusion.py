"""What a larger search costs: a general rule beside the special case that it includes.

    python -m benchmarks.inclusion [--first 0] [--searches 6] [--trials 20] [--records DIR]
        [--batch-sizes 16 128 1024] [--name inclusion]

The rules of the study optimizers_digits whose spaces contain each other: SGD, momentum, Nesterov,
Adam, NAdam, each searched by seeds FIRST, FIRST + 1, ... with N trials a batch size. Of every pair
and batch size: the steps to result of the general rule over those of its special case, paired by
search; their median with its exact range; and ``chance``, the probability that the upper end of
that range would be at most 1.1 if both optima were equal, by the spread of the searches themselves
(log2 of the steps, normal, independent): what a bar of 1.1 can ask of so many searches.

Results go to benchmarks/results/NAME.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import write_results
from experiments.analysis.inclusion import paired_ratios
from experiments.analysis.summary import Summary, summarise
from experiments.records.store import read
from experiments.runner.study import run_study
from experiments.studies.optimizers_digits import NESTED, STUDY

BAR = 1.1


def searched(
    rule: str, *, seeds: tuple[int, ...], trials: int, sizes: tuple[int, ...], folder: Path
) -> Summary:
    """The searches of one rule; a record that is there goes on."""
    study = dataclasses.replace(STUDY.studies[rule], seeds=seeds, trials=trials, batch_sizes=sizes)
    return summarise(read(run_study(study, folder / rule)))


def spread(found: Summary, batch_size: int) -> float:
    """Standard deviation of log2 steps to result over the searches that got there."""
    steps = found.steps.filter(batch_size=batch_size)["steps_to_result"].drop_nulls().to_list()
    return statistics.stdev(map(math.log2, steps)) if len(steps) > 1 else math.nan


def chance(ours: float, theirs: float, searches: int) -> float:
    """That of so many ratios of equal optima none is above the bar."""
    deviation = math.hypot(ours, theirs)
    if not deviation > 0:
        return math.nan
    return statistics.NormalDist(0.0, deviation).cdf(math.log2(BAR)) ** searches


def rows(found: dict[str, Summary]) -> list[dict[str, Any]]:
    """One a pair and batch size."""
    result = []
    for row in paired_ratios(found).iter_rows(named=True):
        size = row["batch_size"]
        ours, theirs = (spread(found[row[key]], size) for key in ("general", "special"))
        likely = chance(ours, theirs, row["searches"])
        numbers = {key: round(row[key], 4) for key in ("ratio", "low", "high", "coverage")}
        result.append({**row, **numbers, "chance": round(likely, 3), "met": row["high"] <= BAR})
    return result


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--searches", type=int, default=6)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 128, 1024])
    parser.add_argument("--rules", nargs="+", choices=NESTED, default=list(NESTED))
    parser.add_argument("--records", type=Path, help="keep the records of the searches here")
    parser.add_argument("--name", default="inclusion")
    options = parser.parse_args()
    seeds = tuple(range(options.first, options.first + options.searches))
    sizes = tuple(options.batch_sizes)
    with tempfile.TemporaryDirectory() as folder:
        kept = options.records or Path(folder)
        found = {}
        for rule in options.rules:
            found[rule] = searched(
                rule, seeds=seeds, trials=options.trials, sizes=sizes, folder=kept
            )
            print(rule, flush=True)
    results = {"seeds": seeds, "trials": options.trials, "bar": BAR}
    results |= {"rows": rows(found)}
    if results["rows"]:  # a pair of rules at least
        print(write_results(options.name, results))


if __name__ == "__main__":
    main()
