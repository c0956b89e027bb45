"""How many trials and steps each sampler needs, where the tuned optimum is known exactly.

    python -m benchmarks.search [--quick] [--seeds 30] [--first 0] [--slow-seeds 6] [--name NAME]
    python -m benchmarks.search --only gp [--seeds 30] [--first 0] [--name NAME]

The noisy quadratic model with momentum (Zhang et al. 2019; K = 10,000 in 100 bins, goal 0.01) at
B = 4^1..4^8; rate in [1e-4, 3] log, momentum in [0, 0.999] reverse log; a trial is 30 times as long
as the optimum, which a refined grid finds. A search is one seed over all eight batch sizes. Its
excess is log2 of the exact first crossing of the configuration it chose over the optimum's, or
log2 30 where no trial reached the goal; means over batch sizes and seeds with standard errors of
the seeds. Trials that diverge are not replaced here: N is the number started.

Stopping: never; at the goal; or race (also at 3 times the fewest steps of earlier rounds, the
first round paced by doubling lengths). Steps are given in units of the optimum's per batch size.
What each part of `rounds` contributes is measured by leaving it out: the other batch sizes'
trials, the coordinates, different first points, the quadratic (its points are then those far from
known ones), rounds (all trials after the first in one). `gp` has a Gaussian process in place of
the quadratic.
Settings of `rounds` were chosen on seeds from 1000 on. Results go to
benchmarks/results/NAME.json, search_nqm unless given (with --quick: search_nqm_quick).
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import functools
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from benchmarks.crossing import EXACT, first_crossing
from benchmarks.machine import RESULTS, write_results
from experiments.search.rounds import RoundProgress, counts, next_lap, planned, race_bound
from experiments.search.samplers.base import Ask, Sampler, Seen
from experiments.search.samplers.rounds import Settings
from experiments.search.samplers.rounds import propose as rounds
from experiments.search.samplers.table import SAMPLERS, sampler
from experiments.spec.space import Distribution, Real

BATCH_SIZES = tuple(4**k for k in range(1, 9))
LENGTH = 30
SPACE: dict[str, Distribution] = {
    "learning_rate": Real(1e-4, 3.0, "log"),
    "momentum": Real(0.0, 0.999, "reverse_log"),
}
RACE_FACTOR = 3.0
Stopping = Literal["never", "goal", "race"]


def _crossings(sizes: np.ndarray, points: np.ndarray, caps: np.ndarray, **options: Any) -> Any:
    rates = np.array([SPACE["learning_rate"].value(u) for u in points[:, 0]], float)
    momenta = np.array([SPACE["momentum"].value(u) for u in points[:, 1]], float)
    return first_crossing(sizes, rates, momenta, caps, **options)


@functools.cache
def optimum(batch_size: int) -> tuple[int, float, float]:
    """(steps, rate, momentum) of the best point of a grid refined three times about its best."""
    low, high, best = np.zeros(2), np.ones(2), (0, 0.0, 0.0)
    for _ in range(4):
        axes = [np.linspace(low[d], high[d], count) for d, count in enumerate((41, 31))]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).reshape(-1, 2)
        caps = np.full(len(points), 40_000_000 // batch_size + 200_000)
        found = _crossings(np.full(len(points), batch_size), points, caps).crossing
        row = int(np.argmin(np.where(found > 0, found, caps.max() + 1)))
        width = (high - low) / 8
        low, high = np.maximum(points[row] - width, 0), np.minimum(points[row] + width, 1)
        exact = _crossings(np.array([batch_size]), points[[row]], caps[:1], scan=EXACT).crossing
        rate, momentum = SPACE["learning_rate"].value(points[row, 0]), points[row, 1]
        best = (int(exact[0]), float(rate), float(SPACE["momentum"].value(float(momentum))))
    return best


@dataclasses.dataclass
class SimulatedSearches:
    """Searches of several seeds at all batch sizes, round by round.

    With ``noise`` the steps that a trial shows are those of its configuration times 2^(noise z),
    z standard normal by seed, batch size and index: the luck of a training.
    """

    propose: Sampler
    seeds: tuple[int, ...]
    total: int
    adaptive: bool = True
    stopping: Stopping = "never"
    batch_sizes: tuple[int, ...] = BATCH_SIZES
    most_rounds: int | None = None
    noise: float = 0.0
    seen: dict[int, list[Seen]] = dataclasses.field(default_factory=dict)
    steps: float = 0.0

    def run(self) -> SimulatedSearches:
        """All rounds."""
        self.seen = {seed: [] for seed in self.seeds}
        last = self.most_rounds or len(planned(self.total, adaptive=self.adaptive))
        for number in range(last):
            rows = []
            for seed in self.seeds:
                made = len(self.seen[seed]) // len(self.batch_sizes)
                progress = dict.fromkeys(self.batch_sizes, RoundProgress(made, made))
                wanted = counts(self.total, progress, adaptive=self.adaptive)
                if number == last - 1:
                    wanted = dict.fromkeys(wanted, self.total - made)
                ask = Ask(seed, number, self.total, SPACE, wanted, tuple(self.seen[seed]))
                for size, points in self.propose(ask).points.items():
                    rows += [(seed, size, made + i, point) for i, point in enumerate(points)]
            self._train(rows)
        return self

    def _train(self, rows: list[tuple[int, int, int, tuple[float, ...]]]) -> None:
        sizes = np.array([row[1] for row in rows])
        lengths = np.array([LENGTH * optimum(int(size))[0] for size in sizes])
        ends = _crossings(sizes, np.array([row[3] for row in rows]), lengths)
        crossing = np.where(ends.crossing > 0, ends.crossing, np.inf)
        if self.noise:
            luck = [np.random.default_rng(row[:3]).standard_normal() for row in rows]
            crossing = crossing * 2.0 ** (self.noise * np.array(luck))
        divergence = np.where(ends.divergence > 0, ends.divergence, np.inf)
        known = {
            seed: {b: _fewest(t for t in trials if t.batch_size == b) for b in self.batch_sizes}
            for seed, trials in self.seen.items()
        }
        groups: dict[tuple[int, int], list[int]] = {}
        for i, (seed, size, *_) in enumerate(rows):
            groups.setdefault((seed, size), []).append(i)
        for (seed, size), group in groups.items():
            bound = self._bound(crossing[group], int(lengths[group[0]]), known[seed][size])
            for i in group:
                end = min(crossing[i], divergence[i], bound)
                full = min(divergence[i], bound)
                self.steps += (full if self.stopping == "never" else end) / optimum(size)[0]
                point, index = rows[i][3], rows[i][2]
                if crossing[i] <= bound:
                    trial = Seen(size, index, point, "reached", float(crossing[i]))
                elif divergence[i] <= bound:
                    trial = Seen(size, index, point, "infeasible")
                else:
                    trial = Seen(size, index, point, "censored", float(bound))
                self.seen[seed].append(trial)

    def _bound(self, crossing: np.ndarray, length: int, fewest: float | None) -> int:
        """Steps that the trials of a round make at most."""
        if self.stopping != "race":
            return length
        if fewest is not None:
            return race_bound(fewest, length, RACE_FACTOR)
        made, best = 0, None
        while (lap := next_lap(made, length, best)) is not None:
            made = lap
            best = float(crossing.min()) if crossing.min() <= made else None
        return made

    def excess(self, trials: int | None = None) -> np.ndarray:
        """[seeds, batch sizes] of the first ``trials`` (all) trials."""
        chosen, sizes = [], []
        for seed in self.seeds:
            for size in self.batch_sizes:
                own = [
                    t for t in self.seen[seed] if t.batch_size == size and t.outcome == "reached"
                ]
                own = [t for t in own if trials is None or t.index < trials]
                best = min(own, key=lambda t: (t.value, t.index), default=None)
                chosen.append(best.point if best else (0.0, 0.0))
                sizes.append(size if best else 0)
        found = np.full(len(chosen), math.log2(LENGTH))
        rows = np.flatnonzero(sizes)
        of = np.array(sizes)[rows]
        optima = np.array([optimum(int(size))[0] for size in of])
        points = np.array(chosen)[rows]
        found[rows] = np.log2(_crossings(of, points, LENGTH * optima, scan=EXACT).crossing / optima)
        return found.reshape(len(self.seeds), len(self.batch_sizes))

    def shown(self) -> np.ndarray:
        """[seeds, batch sizes] log2 of the fewest steps that a trial showed over the optimum's."""
        found = np.full((len(self.seeds), len(self.batch_sizes)), math.log2(LENGTH))
        for row, seed in enumerate(self.seeds):
            for column, size in enumerate(self.batch_sizes):
                steps = _fewest(trial for trial in self.seen[seed] if trial.batch_size == size)
                if steps is not None:
                    found[row, column] = math.log2(steps / optimum(size)[0])
        return found

    def summary(self, trials: int | None = None) -> dict[str, Any]:
        """Mean excess with its standard error, by batch size, and steps a batch size."""
        excess = self.excess(trials)
        per_seed = excess.mean(-1)
        error = float(per_seed.std(ddof=1) / math.sqrt(len(per_seed))) if len(per_seed) > 1 else 0.0
        row = {
            "trials": trials or self.total,
            "seeds": len(self.seeds),
            "mean_log2_excess": round(float(per_seed.mean()), 4),
            "standard_error": round(error, 4),
            "by_batch_size": dict(
                zip(map(str, self.batch_sizes), excess.mean(0).round(4), strict=True)
            ),
        }
        if trials is None:
            steps = self.steps / len(self.seeds) / len(self.batch_sizes)
            row |= {"stopping": self.stopping, "optima_of_steps": round(steps, 1)}
        return row


def _fewest(trials: Iterable[Seen]) -> float | None:
    return min((trial.value for trial in trials if trial.outcome == "reached"), default=None)


PARTS: dict[str, dict[str, bool]] = {
    "without neighbours": {"neighbours": False},
    "without coordinates": {"moved": False},
    "with equal first points": {"spread": False},
    "without the quadratic": {"model": False},
}


def measure(
    seeds: tuple[int, ...], slow: tuple[int, ...], totals: tuple[int, ...]
) -> dict[str, Any]:
    """All tables."""
    print("optima", {b: optimum(b) for b in BATCH_SIZES}, flush=True)
    results: dict[str, Any] = {"seeds": seeds, "optima": {str(b): optimum(b) for b in BATCH_SIZES}}

    def add(name: str, search: SimulatedSearches, *at: int) -> None:
        search.run()
        row = search.summary()
        results.setdefault("searches", {})[name] = row
        for trials in at:
            results["searches"][f"{name}, first {trials}"] = search.summary(trials)
        print(name, row["mean_log2_excess"], row["optima_of_steps"], flush=True)

    def plain(
        name: str, total: int, over: tuple[int, ...] = seeds, stop: Stopping = "never"
    ) -> SimulatedSearches:
        return SimulatedSearches(sampler(name), over, total, SAMPLERS[name].adaptive, stop)

    add("halton 100", plain("halton", 100), 12, 24, 48)
    add("halton 100, race", plain("halton", 100, stop="race"))
    for total in totals:
        add(f"rounds {total}", plain("rounds", total))
        add(f"rounds {total}, race", plain("rounds", total, stop="race"))
    for total in totals:
        add(f"random {total}", plain("random", total))
        for part, setting in PARTS.items():
            changed = functools.partial(rounds, settings=Settings(**setting))  # type: ignore[arg-type]
            add(f"rounds {total} {part}", SimulatedSearches(changed, seeds, total))
        add(f"rounds {total} in two rounds", SimulatedSearches(rounds, seeds, total, most_rounds=2))
        add(f"tpe {total}", plain("tpe", total, slow))
        add(f"cma {total}", plain("cma", total, slow))
    results["bars"] = bars(results["searches"])
    print(results["bars"], flush=True)
    add(f"gp {totals[0]}", plain("gp", totals[0], slow))  # slow: seconds a round
    return results


def measure_again(names: Sequence[str], seeds: tuple[int, ...], file: str) -> None:
    """Put rows of these samplers, 24 and 48 trials, in the place of those of a file of results."""
    path = RESULTS / f"{file}.json"
    results = json.loads(path.read_text())
    for name in names:
        for total in (24, 48):
            search = SimulatedSearches(sampler(name), seeds, total, SAMPLERS[name].adaptive).run()
            row = search.summary() | {"measured": datetime.date.today().isoformat()}
            results["searches"][f"{name} {total}"] = row
            print(name, total, row["mean_log2_excess"], row["standard_error"], flush=True)
    path.write_text(json.dumps(results, indent=2) + "\n")


def bars(searches: dict[str, Any]) -> dict[str, Any]:
    """Name -> (measured, at most)."""
    excess = {name: row["mean_log2_excess"] for name, row in searches.items()}
    raced = searches["rounds 24, race"]["optima_of_steps"]
    found: dict[str, tuple[float, float]] = {
        "excess_24": (excess["rounds 24"], 0.15),
        "steps_of_race_24_over_full_halton_100": (
            raced / searches["halton 100"]["optima_of_steps"],
            0.1,
        ),
        "excess_of_race_24": (excess["rounds 24, race"], excess["halton 100"]),
        "steps_of_race_24_over_halton_100_race": (
            raced / searches["halton 100, race"]["optima_of_steps"],
            1 / 3,
        ),
    }
    if "rounds 48" in searches:
        found["excess_48"] = (excess["rounds 48"], 0.05)
    return found


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two seeds, 24 trials")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--name", default="search_nqm", help="of the results")
    parser.add_argument("--slow-seeds", type=int, default=6, help="seeds of tpe, cma and gp")
    parser.add_argument("--only", nargs="+", choices=SAMPLERS, help="measure these rows again")
    options = parser.parse_args()
    if options.only:
        seeds = tuple(range(options.first, options.first + options.seeds))
        measure_again(options.only, seeds, options.name)
        return
    count = 2 if options.quick else options.seeds
    seeds = tuple(range(options.first, options.first + count))
    slow = seeds[: 1 if options.quick else options.slow_seeds]
    results = measure(seeds, slow, (24,) if options.quick else (24, 48))
    write_results("search_nqm_quick" if options.quick else options.name, results)


if __name__ == "__main__":
    main()
