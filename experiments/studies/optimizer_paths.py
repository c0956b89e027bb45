"""How do the update rules walk on a ravine, past a saddle and along Rosenbrock's valley?

Command:   batchscale run optimizer_paths
           batchscale run optimizer_paths --smoke
Time:      about half a minute, compilation included.
Expected:  in the ravine SGD creeps along the floor, momentum swings across it and past the end;
           at the saddle SGD and momentum first run down to it, while the rules that divide by
           the gradient's size turn off at once; in Rosenbrock's valley momentum gets furthest.

Every rule walks at the rate, of 33 between 1e-4 and 10, at which the mean height along its path
is least; its other hyperparameters are the defaults. Gradients are exact: nothing is sampled.
The page has a slider over steps.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments.spec.paths import Paths, Surface


def ravine(x: Any, y: Any) -> Any:
    """Fifty times steeper across than along."""
    return 0.05 * x**2 + 2.5 * y**2


def saddle(x: Any, y: Any) -> Any:
    """A saddle at (0, 0) between the minima (0, -1) and (0, 1)."""
    return x**2 - y**2 + 0.5 * y**4


def rosenbrock(x: Any, y: Any) -> Any:
    """A curved valley; the minimum is at (1, 1) (Rosenbrock 1960)."""
    return (1 - x) ** 2 + 100 * (y - x**2) ** 2


STUDY = Paths(
    name="optimizer_paths",
    question="How do the update rules walk on a ravine, past a saddle, along Rosenbrock's valley?",
    surfaces=(
        Surface(
            "ravine", "0.05 x^2 + 2.5 y^2", "experiments.studies.optimizer_paths:ravine",
            (-7.0, 1.6), (-8.0, -2.2), (4.5, 2.2), 0.0,
        ),
        Surface(
            "saddle", "x^2 - y^2 + y^4 / 2", "experiments.studies.optimizer_paths:saddle",
            (-1.6, 0.001), (-2.0, -1.3), (1.5, 1.8), -0.5,
        ),
        Surface(
            "Rosenbrock", "(1 - x)^2 + 100 (y - x^2)^2",
            "experiments.studies.optimizer_paths:rosenbrock",
            (-1.2, 1.0), (-1.8, -0.7), (1.6, 2.0), 0.0,
        ),
    ),
    optimizers=(
        "sgd", "momentum", "nesterov", "cs231n_adagrad", "rmsprop", "adam", "nadam", "lion",
    ),
    steps=200,
    rates=tuple(float(f"{10 ** (-4 + k * 5 / 32):.4g}") for k in range(33)),
    expected=(
        "Momentum overshoots and comes back; at the saddle the rules that divide by the size of "
        "the gradient turn off at once; in the curved valley momentum gets furthest (CS231n)."
    ),
)  # fmt: skip

SMOKE = dataclasses.replace(
    STUDY,
    name="optimizer_paths-smoke",
    optimizers=("sgd", "momentum", "adam"),
    steps=60,
    rates=STUDY.rates[::4],
)
