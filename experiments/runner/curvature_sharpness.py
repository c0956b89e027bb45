"""The sharpness of a trained trial: Keskar's in both spaces, and the two scaled ones."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

from experiments.diagnostics.scaled_sharpness import (
    filter_normalised_sharpness,
    relative_sharpness,
)
from experiments.diagnostics.sharpness import (
    DIMENSIONS,
    EPSILONS,
    ITERATIONS,
    Distribution,
    Sharpness,
    keskar_sharpness,
)
from experiments.runner.curvature_parts import CurvatureTables, Subject


@dataclasses.dataclass(frozen=True)
class SharpnessSearch:
    """The search for a maximum in the box.

    Attributes:
      iterations: of L-BFGS-B, each its own measurement; None to convergence.
      restarts: starts, uniform in the box; the largest maximum counts.
      distribution: of the entries of A.
    """

    iterations: tuple[int | None, ...] = (ITERATIONS, None)
    restarts: int = 1
    distribution: Distribution = "normal"

    def __post_init__(self) -> None:
        for name, count in [
            ("restarts", self.restarts),
            *(("iterations", i) for i in self.iterations),
        ]:
            if count is not None and count < 1:
                raise ValueError(f"{name} must be at least 1, got {count!r}")
        if not self.iterations:
            raise ValueError("iterations must hold at least one number, or convergence")


KESKARS = SharpnessSearch()
"""His 10 iterations, and to convergence; A of independent normal entries."""


def sharpness(subject: Subject, found: CurvatureTables, search: SharpnessSearch) -> None:
    """Keskar's in both spaces at both of his epsilon, and the two scaled ones."""
    few = min(DIMENSIONS, int(subject.theta.size))
    random = f"{few} random dimensions"
    for iterations in search.iterations:
        for epsilon in EPSILONS:
            keskar = functools.partial(keskar_sharpness, epsilon=epsilon)
            _add(subject, found, "Keskar's sharpness, full space", keskar, (iterations, search))
            inside = functools.partial(keskar, dimensions=few, distribution=search.distribution)
            _add(subject, found, f"Keskar's sharpness, {random}", inside, (iterations, search))
        scaled = {
            "relative sharpness": relative_sharpness,
            "filter-normalised sharpness": filter_normalised_sharpness,
        }
        for name, measure in scaled.items():
            _add(subject, found, name, measure, (iterations, search))


def _add(
    subject: Subject,
    found: CurvatureTables,
    name: str,
    measure: Callable[..., Sharpness],
    how: tuple[int | None, SharpnessSearch],
) -> None:
    iterations, search = how
    one = measure(
        subject.problem, subject.params, subject.seed,
        iterations=iterations, restarts=search.restarts,
    )  # fmt: skip
    words = name_of(name, one.epsilon, iterations)
    found.add(words, one.value, None, _how(one, subject.seed))


def name_of(name: str, epsilon: float, iterations: int | None) -> str:
    """The quantity's name in the table."""
    until = "to convergence" if iterations is None else f"{iterations} iterations"
    return f"{name}, epsilon {epsilon:g}, {until}"


def _how(one: Sharpness, seed: int) -> str:
    """Starts, A where there is one, and whether the search ended by itself."""
    starts = len(one.maxima)
    words = f"percent; L-BFGS-B from {starts} random point{'s' if starts > 1 else ''} of the box"
    if one.space == "normal":
        words += f", A [n, {one.dimensions}] of independent N(0, 1) entries, seed {seed}"
    if one.space == "orthonormal":
        words += f", A [n, {one.dimensions}] with orthonormal columns, seed {seed}"
    if one.iterations is None:
        words += f"; {one.evaluations:,} losses, {int(one.converged.sum())} of {starts} converged"
    return words
