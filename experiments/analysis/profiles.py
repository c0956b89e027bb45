"""Performance profiles by AlgoPerf's definition, and how far an order depends on the tuning.

Dahl et al. 2023, "Benchmarking Neural Network Training Algorithms", arXiv 2306.07179, section 4.4
(after Dolan & More 2002): with t(s, w) what submission s takes to the target of workload w,

    r(s, w) = t(s, w) / min_s' t(s', w),    rho_s(tau) = share of workloads with r(s, w) <= tau,
    score_s = integral of rho_s from 1 to r_max, over r_max - 1,    r_max = 4,

r being infinite where s never reaches the target. Here the members of a comparison are the
submissions, its batch sizes the workloads (those at which every member has begun a search: what was
not begun misses nothing), and t is steps (at one batch size equal to examples):
time and money are a plan's, and have a page of their own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from experiments.analysis.intervals import NO_ANSWER, Answer, median_of_searches
from experiments.analysis.paired import example_answers
from experiments.analysis.searches import Across, search_answer, trial_answers
from experiments.analysis.summary import Summary

MOST = 4.0
"""AlgoPerf's r_max."""


def ratios_to_best(times: np.ndarray) -> np.ndarray:
    """r(s, w) from t [submissions, workloads]; infinite where never, and where nobody got there."""
    best = times.min(axis=0)
    found = np.full(times.shape, np.inf)
    reached = np.isfinite(times) & np.isfinite(best)
    np.divide(times, best, out=found, where=reached)
    return found


def profile(ratios: np.ndarray, tau: float) -> np.ndarray:
    """rho_s(tau) [submissions]."""
    return (ratios <= tau).mean(axis=1)


def score(ratios: np.ndarray, most: float = MOST) -> np.ndarray:
    """The area under the profile up to ``most`` [submissions], in closed form."""
    return np.clip(most - ratios, 0.0, None).mean(axis=1) / (most - 1)


Searched = Sequence[Mapping[tuple[int, int], Answer]]
"""Of each member: (batch size, seed) -> examples to the goal of each search that it has begun."""


def _searched(members: Mapping[str, Summary]) -> tuple[Searched, list[int]]:
    """The members' searches, and the batch sizes at which every member has begun one."""
    answers = [example_answers(summary) for summary in members.values()]
    begun = set.intersection(*({size for size, _ in own} for own in answers))
    return answers, sorted(begun)


def _times(answers: Searched, sizes: Sequence[int], seed: int | None = None) -> np.ndarray:
    """Examples to the goal [members, batch sizes]: of one seed's searches, else their medians."""
    return np.array([
        [median_of_searches([a for (b, s), a in own.items() if b == size and seed in (None, s)])
         for size in sizes]
        for own in answers
    ])  # fmt: skip


def profile_table(members: Mapping[str, Summary]) -> pl.DataFrame:
    """The steps of every member's profile: ``label, tau, share``, tau from 1 to 4.

    Over the batch sizes at which every member has begun a search; no rows where there is none.
    """
    answers, sizes = _searched(members)
    ratios = ratios_to_best(_times(answers, sizes))
    steps = sorted({1.0, MOST, *(float(r) for r in ratios.ravel() if r <= MOST)} if sizes else ())
    shares = [profile(ratios, tau) for tau in steps]
    rows = [
        (label, tau, float(share[place]))
        for place, label in enumerate(members)
        for tau, share in zip(steps, shares, strict=True)
    ]
    schema = {"label": pl.String, "tau": pl.Float64, "share": pl.Float64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def score_table(members: Mapping[str, Summary]) -> pl.DataFrame:
    """One row a member, from the best score down.

    Columns: ``label``; ``score`` of the medians of the searches over the batch sizes at which every
    member has begun one, null where there is none; ``fastest``, batch sizes at which it is;
    ``searches``, seeds with which every member has begun all of these searches; ``low, high,
    coverage``, the exact range of the score of one search of each member with one such seed (null
    for fewer than two).
    """
    answers, sizes = _searched(members)
    ratios = ratios_to_best(_times(answers, sizes))
    seeds = set.intersection(*({seed for _, seed in own} for own in answers))
    seeds = {s for s in seeds if sizes and all((b, s) in own for own in answers for b in sizes)}
    whole = score(ratios).tolist() if sizes else [None] * len(answers)
    each = [score(ratios_to_best(_times(answers, sizes, seed))) for seed in sorted(seeds)]
    rows = []
    for place, label in enumerate(members):
        found = [Answer.exactly(float(values[place])) for values in each]
        across = Across.of(found or [NO_ANSWER])
        rows.append((label, whole[place], int((ratios[place] == 1).sum()), len(seeds),
                     across.low, across.high, across.coverage))  # fmt: skip
    floats = dict.fromkeys(("low", "high", "coverage"), pl.Float64)
    schema = {"label": pl.String, "score": pl.Float64, "fastest": pl.Int64,
              "searches": pl.Int64, **floats}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row").sort(
        "score", descending=True, nulls_last=True, maintain_order=True
    )


def rank_stability(members: Mapping[str, Summary]) -> pl.DataFrame:
    """The likeness of the order of the members after k trials to that after all N.

    A search that was stopped after k of its trials has reached the goal at the fewest steps of the
    first k that count; members are ordered by the medians of their searches. One row a k: ``k``;
    ``agreement``, Kendall's tau-b between the orders after k and after all, the mean over the
    batch sizes at which two members or more got there; ``same_fastest``, batch sizes whose fastest
    member is that after all; ``batch_sizes`` with a fastest one.
    """
    from scipy.stats import kendalltau

    shared = next(iter(members.values())).question
    trials = {
        label: trial_answers(summary.view, summary.crossings) for label, summary in members.items()
    }
    grid = sorted({round(k) for k in np.geomspace(1, shared.trials, 12)})
    orders = {k: _after(trials, shared.batch_sizes, k) for k in grid}
    rows = []
    for k in grid:
        agreements, same, known = [], 0, 0
        for mine, last in zip(orders[k].T, orders[grid[-1]].T, strict=True):
            if np.isfinite(last).any():
                known += 1
                same += int(np.isfinite(mine).any() and mine.argmin() == last.argmin())
            if np.isfinite(last).sum() > 1:
                # What never got there ranks after all that did.
                capped = [np.where(np.isfinite(x), x, 1e300) for x in (mine, last)]
                tau = float(kendalltau(*capped).statistic)
                agreements.append(0.0 if math.isnan(tau) else tau)
        rows.append((k, float(np.mean(agreements)) if agreements else None, same, known))
    schema = {"k": pl.Int64, "agreement": pl.Float64, "same_fastest": pl.Int64,
              "batch_sizes": pl.Int64}  # fmt: skip
    return pl.DataFrame(rows, schema=schema, orient="row")


def _after(
    trials: Mapping[str, Mapping[tuple[int, int], Sequence[Answer]]],
    batch_sizes: Sequence[int],
    k: int,
) -> np.ndarray:
    """Steps [members, batch sizes] after k trials, medians of the searches."""
    rows = []
    for own in trials.values():
        row = []
        for b in batch_sizes:
            found = [search_answer(answers[:k]) for (size, _), answers in own.items() if size == b]
            row.append(median_of_searches(found) if found else math.inf)
        rows.append(row)
    return np.array(rows)
