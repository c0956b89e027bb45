"""Bayesian optimisation: a Gaussian process over one-hot choices, expected improvement.

Values become normal scores of their ranks. With d(x, x') the share of choices that differ,

    cov(y, y') = exp(-d(x, x') / length) + noise [x = x'],

the length and the noise those of `LENGTHS` and `NOISES` under which the scores are likeliest.
Candidates are uniform codes and the neighbours of the best. Within a round's batch the process
takes its own prediction for what it has chosen (kriging believer; Ginsbourger et al. 2010).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from experiments.search.architecture.space import Code
from experiments.search.architecture.strategies.base import Fresh, History, Strategy, kept, nothing

LENGTHS = (0.1, 0.2, 0.4, 0.8, 1.6)
NOISES = (0.01, 0.05, 0.2)
MOST = 500
"""Architectures the process is fitted to: the best ones, where there are more."""


def bayesian(first: int = 10, uniform: int = 100, best: int = 5) -> Strategy:
    """The ``first`` codes are uniform; then the most promising of the candidates.

    Candidates are ``uniform`` uniform codes and all neighbours of the ``best`` ones.

    Raises:
      ValueError: a number below 1.
    """
    if min(first, uniform, best) < 1:
        raise ValueError(
            f"first, uniform and best are whole numbers from 1 on, got {first}, {uniform}, {best}"
        )

    def propose(memory: None, history: History, count: int) -> list[Code]:
        del memory
        fresh, stream = Fresh(history, count), history.stream("bayesian")
        missing = first - len(history.results)
        if missing > 0:
            fresh.wanted = min(count, missing)
            return fresh.fill(stream)
        pool = Fresh(history, uniform)
        pool.fill(stream)
        pool.wanted = uniform + len(history.space.sizes) * sum(history.space.sizes) * best
        for result in sorted(history.results, key=lambda result: result.value)[:best]:
            for code in history.space.neighbours(result.code):
                pool.offer(code)
        for code in most_promising(history, pool.codes, count):
            fresh.offer(code)
        return fresh.codes

    return Strategy(nothing, propose, kept)


def most_promising(history: History, pool: Sequence[Code], count: int) -> list[Code]:
    """``count`` codes of the pool, by expected improvement over the best score."""
    from threadpoolctl import threadpool_limits

    order = sorted(history.results, key=lambda result: result.value)
    with threadpool_limits(1):  # small matrices: threads cost more than they bring
        return _chosen(history, [result.code for result in order[:MOST]], pool, count)


def _chosen(
    history: History, known: Sequence[Code], pool: Sequence[Code], count: int
) -> list[Code]:
    """Codes of the pool by expected improvement; ``known`` is best first."""
    from scipy.special import ndtr, ndtri

    failed = {r.code for r in history.results if not np.isfinite(r.value)}
    ranks = np.arange(len(known), dtype=float)
    if failed:
        ranks[[code in failed for code in known]] = len(known) - 1
    scores = ndtri((ranks + 0.5) / len(known))
    sizes, encoded = len(history.space.sizes), history.space.encoded
    inputs, candidates = encoded(list(known)) / sizes**0.5, encoded(list(pool)) / sizes**0.5
    left = list(pool)
    length, noise = _likeliest(_differ(inputs, inputs), scores)
    best, chosen = float(scores.min()), []
    for _ in range(min(count, len(pool))):
        covariance = np.exp(-_differ(inputs, inputs) / length) + noise * np.eye(len(inputs))
        across = np.exp(-_differ(candidates, inputs) / length)
        solved = np.linalg.solve(covariance, np.column_stack([scores, across.T]))
        mean = across @ solved[:, 0]
        deviation = np.sqrt(np.maximum(1.0 - (across * solved[:, 1:].T).sum(1), 1e-12))
        z = (best - mean) / deviation
        gain = deviation * (z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))
        place = int(np.argmax(gain))
        chosen.append(left.pop(place))
        inputs = np.vstack([inputs, candidates[place]])
        scores = np.append(scores, mean[place])
        candidates = np.delete(candidates, place, 0)
    return chosen


def _differ(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """[len(a), len(b)] share of choices that differ; rows are one-hot over sqrt(choices)."""
    result: np.ndarray = np.maximum(1.0 - a @ b.T, 0.0)
    return result


def _likeliest(distance: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """Length and noise of the greatest marginal likelihood, the scale being the scores' own."""
    found = []
    for length in LENGTHS:
        values, vectors = np.linalg.eigh(np.exp(-distance / length))
        projected = (vectors.T @ scores) ** 2
        for noise in NOISES:
            spectrum = np.maximum(values, 0.0) + noise
            scale = float((projected / spectrum).mean())
            fit = -0.5 * float(np.log(spectrum).sum()) - 0.5 * len(scores) * np.log(scale)
            found.append((fit, length, noise))
    _, length, noise = max(found)
    return length, noise
