"""What rounds save on a real task, where luck has its share: handwritten digits.

    python -m benchmarks.search_digits [--seeds 24] [--trials 24 ...] [--groups 8] [--records DIR]

Quickstart's question at three of its batch sizes; trials race, which changes no steps to result of
a list of points. Each seed is searched by quasi-random points and by rounds, N trials a batch size;
all trials of all searches are pooled, and the fewest steps of any of them is the best known. Two
measures, both log2 and means over batch sizes and seeds with standard errors of the seeds:

- excess: a search's steps to result over the best known. Luck has its share in both: even a search
  that makes all its N trials at the best configuration has an excess, the floor: the mean over
  groups of N repeats (other initial weights, other order) of the fewest steps of a group. What a
  sampler can be blamed for is what is above it.
- repeated: the median steps of five repeats of the configuration that a search chose over the
  median of the repeats of the best one. Here luck helps nobody.

The bar: above the floor at most half of what quasi-random points leave. Its 95 % interval resamples
the seeds of both samplers and the groups of repeats, 10,000 times; the best known is held. Results
go to benchmarks/results/search_digits.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import write_results
from experiments.analysis.steps_to_result import crossings, steps_to_result
from experiments.analysis.view import View
from experiments.records.store import read
from experiments.runner.study import run_study
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import Study
from experiments.spec.trial import Trial
from experiments.studies import quickstart
from experiments.training.feed import ResidentData
from experiments.training.layout import Execution
from experiments.training.population import Population
from experiments.training.program import Program
from workloads import datasets

BATCH_SIZES = (64, 256, 1024)
OF_CHOSEN = 5
"""Repeats of the configuration that a search chose."""
REPEATED_SEED = 10_000
"""No search's: repeats begin elsewhere and see the examples in another order."""
RESAMPLED = 10_000


def study_of(sampler: str, seeds: Sequence[int], trials: int) -> Study:
    """Searches by this sampler, whose trials race."""
    return dataclasses.replace(
        quickstart.STUDY,
        name=f"digits-{sampler}-{trials}",
        batch_sizes=BATCH_SIZES,
        sampler=sampler,
        seeds=tuple(seeds),
        trials=trials,
        stop="race",
        full_searches=0,
    )


@dataclasses.dataclass(frozen=True)
class SamplerSearches:
    """What the searches of one sampler found.

    Attributes:
      steps: {(batch size, seed): fewest steps}, infinite where none reached the goal.
      chosen: {(batch size, seed): hyperparameters of that trial}.
      started: trials over all batch sizes and seeds.
      reached: {batch size: trials that reached the goal}.
    """

    steps: dict[tuple[int, int], float]
    chosen: dict[tuple[int, int], dict[str, float]]
    started: int
    reached: dict[int, int]


def searched(study: Study, folder: Path) -> SamplerSearches:
    """Run the searches, and read them back."""
    record = read(run_study(study, folder))
    view, names = View(record), sorted(study.resolved.hyperparameters)
    table, passed = steps_to_result(view), crossings(view).drop_nulls("step")
    steps, chosen = {}, {}
    for row in table.iter_rows(named=True):
        key = row["batch_size"], row["seed"]
        steps[key] = math.inf if row["steps_to_result"] is None else float(row["steps_to_result"])
        if row["trial"] is not None:
            found = record.trials.filter(batch_size=key[0], seed=key[1], trial=row["trial"])
            chosen[key] = dict(zip(names, found.select(names).row(0), strict=True))
    reached = {b: passed.filter(batch_size=b).height for b in BATCH_SIZES}
    return SamplerSearches(steps, chosen, record.trials.height, reached)


class Repeater:
    """Trains one configuration over and over, each time from other weights."""

    def __init__(self, study: ResolvedStudy):
        data = datasets.load(study.workload.dataset)
        resident = ResidentData.put(data.splits, study.train_evaluation_examples)
        self._program = Program(study.config("off"), resident, study.divergence_factor)
        self._study = study

    def length(self, batch_size: int) -> int:
        """Steps of a trial at most."""
        return self._study.length(batch_size)

    def steps(
        self, batch_size: int, configurations: Sequence[dict[str, float]], repeats: int
    ) -> np.ndarray:
        """[configurations, repeats] steps to the goal; the length where one never got there."""
        length, goal = self.length(batch_size), self._study.goal
        waiting = [
            Trial(batch_size, REPEATED_SEED + k, i, length, values, "repeat", stops=True)
            for i, values in enumerate(configurations)
            for k in range(repeats)
        ]
        found = np.full((len(configurations), repeats), float(length))

        def end(result: Any) -> None:
            passed = goal.better(result.evaluations[goal.column])
            if passed.any():
                at = result.trial.index, result.trial.seed - REPEATED_SEED
                found[at] = result.evaluations["step"][passed][0]

        population = Population(self._program, batch_size, Execution("packed", 8))
        population.run(lambda: waiting.pop(0) if waiting else None, end)
        return found


def _by_size(rows: Sequence[np.ndarray]) -> dict[str, float]:
    """Batch size -> mean over seeds."""
    means = (round(float(row.mean()), 3) for row in rows)
    return dict(zip(map(str, BATCH_SIZES), means, strict=True))


def interval(
    ours: np.ndarray, theirs: np.ndarray, floors: np.ndarray, resampled: int = RESAMPLED
) -> list[float]:
    """The 95 % interval of (ours - floor) / (theirs - floor), by the percentile bootstrap.

    Args:
      ours, theirs: [seeds] excesses; a seed's two are drawn together.
      floors: [groups] of the best configuration's repeats.
      resampled: draws.
    """
    generator = np.random.default_rng(0)
    seeds = generator.integers(len(ours), size=(resampled, len(ours)))
    groups = generator.integers(len(floors), size=(resampled, len(floors)))
    floor = floors[groups].mean(-1)
    found = (ours[seeds].mean(-1) - floor) / (theirs[seeds].mean(-1) - floor)
    return [round(float(end), 3) for end in np.quantile(found, (0.025, 0.975))]


def _mean(values: np.ndarray) -> dict[str, float]:
    """Of [seeds, batch sizes]: mean over all, and its standard error over seeds."""
    by_seed = values.mean(-1)
    error = by_seed.std(ddof=1) / math.sqrt(len(by_seed)) if len(by_seed) > 1 else math.nan
    return {"mean": round(float(by_seed.mean()), 4), "standard_error": round(float(error), 4)}


@dataclasses.dataclass
class MeasuredSearches:
    """The searches measured against the best known, batch size after batch size.

    Attributes:
      found: name -> what its searches found.
      seeds: of the searches.
      repeater: trains configurations again.
      trials: N, of the largest searches.
      groups: of N repeats of the best configuration.
      best: batch size -> the best known, and what its repeats show.
      floors: of every batch size, [groups].
      excess, repeated: name -> one row of [seeds] a batch size.
    """

    found: dict[str, SamplerSearches]
    seeds: Sequence[int]
    repeater: Repeater
    trials: int
    groups: int
    best: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    floors: list[np.ndarray] = dataclasses.field(default_factory=list)
    excess: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)
    repeated: dict[str, list[np.ndarray]] = dataclasses.field(default_factory=dict)

    def add(self, batch_size: int) -> None:
        """Measure one batch size."""
        steps, name, seed = min(
            (search.steps[batch_size, seed], name, seed)
            for name, search in self.found.items()
            for seed in self.seeds
        )
        chosen = self.found[name].chosen[batch_size, seed]
        floor = self.repeater.steps(batch_size, [chosen], self.groups * self.trials)[0]
        best_of = floor.reshape(self.groups, self.trials).min(-1)
        self.floors.append(np.log2(best_of / steps))
        self.best[batch_size] = {
            "steps": steps, "of": name,
            "trials_that_reached_the_goal": sum(
                search.reached[batch_size] for search in self.found.values()
            ),
            "median_of_repeats": float(np.median(floor)),
            "mean_log2_of_one_repeat": round(float(np.log2(floor / steps).mean()), 4),
            "floor": round(float(np.log2(best_of / steps).mean()), 4),
            "hyperparameters": {key: chosen[key] for key in ("learning_rate", "momentum")},
        }  # fmt: skip
        for name, search in self.found.items():
            own = [search.steps[batch_size, seed] for seed in self.seeds]
            length = self.repeater.length(batch_size)
            excess = np.log2(np.minimum(own, length) / steps)
            self.excess.setdefault(name, []).append(excess)
            medians = self._medians(batch_size, search)
            self.repeated.setdefault(name, []).append(np.log2(medians / np.median(floor)))
        print(batch_size, self.best[batch_size], flush=True)

    def _medians(self, batch_size: int, search: SamplerSearches) -> np.ndarray:
        """[seeds] median steps of repeats of what each search chose; the length where nothing."""
        medians = np.full(len(self.seeds), float(self.repeater.length(batch_size)))
        chose = [i for i, seed in enumerate(self.seeds) if (batch_size, seed) in search.chosen]
        values = [search.chosen[batch_size, self.seeds[i]] for i in chose]
        medians[chose] = np.median(self.repeater.steps(batch_size, values, OF_CHOSEN), axis=1)
        return medians

    def results(self) -> dict[str, Any]:
        """The summary of every sampler and budget."""
        floor = float(np.mean([row["floor"] for row in self.best.values()]))
        rows = {}
        for name, search in self.found.items():
            excess, repeated = (
                _mean(np.array(table[name]).T) for table in (self.excess, self.repeated)
            )
            above = round(excess["mean"] - floor, 4)
            rows[name] = {
                "started": search.started, "excess": excess, "above_floor": above,
                "repeated": repeated,
                "by_batch_size": _by_size(self.excess[name]),
                "repeated_by_batch_size": _by_size(self.repeated[name]),
                "by_seed": np.array(self.excess[name]).mean(0).round(3).tolist(),
            }  # fmt: skip
            print(name, {key: rows[name][key] for key in ("excess", "repeated")}, flush=True)
        return {"floor": round(floor, 4), "searches": rows}


def measure(
    seeds: Sequence[int], budgets: Sequence[int], groups: int, folder: Path
) -> dict[str, Any]:
    """All numbers, and the bar; records of the searches go to ``folder``."""
    found = {
        f"{sampler} {total}": searched(
            study_of(sampler, seeds, total), folder / f"{sampler}-{total}"
        )
        for total in budgets
        for sampler in ("halton", "rounds")
    }
    repeater = Repeater(study_of("halton", seeds, max(budgets)).resolved)
    measured = MeasuredSearches(found, seeds, repeater, max(budgets), groups)
    for batch_size in BATCH_SIZES:
        measured.add(batch_size)
    results = measured.results()
    rows = results["searches"]

    def ratio(total: int, key: str) -> float:
        ours, theirs = (rows[f"{sampler} {total}"][key] for sampler in ("rounds", "halton"))
        if key == "repeated":
            ours, theirs = ours["mean"], theirs["mean"]
        return round(ours / theirs, 3)

    results["bars"] = {
        f"rounds_over_halton_{key}_{total}": (ratio(total, key), 0.5)
        for total in budgets
        for key in ("above_floor", "repeated")
    }
    results["intervals_95"] = {
        f"rounds_over_halton_{key}_{total}": interval(
            *(np.mean(table[f"{name} {total}"], 0) for name in ("rounds", "halton")), floors
        )
        for total in budgets
        for key, table, floors in (
            ("above_floor", measured.excess, np.mean(measured.floors, 0)),
            ("repeated", measured.repeated, np.zeros(1)),
        )
    }
    print(results["bars"], results["intervals_95"], flush=True)
    best = {str(batch_size): row for batch_size, row in measured.best.items()}
    return {"seeds": list(seeds), "groups": groups, "best": best, **results}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=24)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--name", default="search_digits", help="of the file of results")
    parser.add_argument("--trials", type=int, nargs="+", default=[24])
    parser.add_argument("--groups", type=int, default=8)
    parser.add_argument("--records", type=Path, help="keep the records of the searches here")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kept = options.records or Path(folder)
        results = measure(
            range(options.first, options.first + options.seeds),
            options.trials,
            options.groups,
            kept,
        )
    write_results(options.name, results)


if __name__ == "__main__":
    main()
