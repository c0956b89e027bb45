"""The parts of a trial's curvature: spectrum, sharpness, gradients, landscape."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from experiments.diagnostics import landscape
from experiments.diagnostics.alignment import matched_permutations, permuted
from experiments.diagnostics.curvature.lanczos import hutchinson_trace, xtrace
from experiments.diagnostics.curvature.operators import (
    Operator,
    block,
    gauss_newton,
    hessian,
    preconditioned,
)
from experiments.diagnostics.curvature.spectrum import ends, spectral_density
from experiments.diagnostics.dual_noise import dual_noise
from experiments.diagnostics.gradient_statistics import gradient_statistics, measured_errors
from experiments.diagnostics.preconditioners import divisor
from experiments.diagnostics.problem import Params, Problem, flat
from experiments.diagnostics.stability import threshold_now
from experiments.diagnostics.trained import problem_of
from experiments.runner.trained import OpenedRecord, TrainedTrial
from experiments.training.state import make_task
from workloads.datasets.base import read as read_examples
from workloads.datasets.base import size_of

PLANE_POINTS = 21
BEND_STEPS = 200
"""Steps of Adam that train the bend of a curve between two solutions."""
DRAWN = 30
"""Random batches of each size, of which the error of the mean gradient is measured."""
THETAS = (0.5, 1.0)
"""Of the norm test and the inner-product test."""


@dataclasses.dataclass(frozen=True)
class Subject:
    """The trial that is measured.

    Attributes:
      opened: its record.
      trained: the trial; then the second solution of the lines, where there is one.
      count: training examples that are measured.
      problem, params: the objective on them, and the parameters.
      inside: [n] bool, the parameters whose curvature is measured.
      split: beside "train", where the landscape is evaluated.
      seed: of probes, starts and directions.
    """

    opened: OpenedRecord
    trained: tuple[TrainedTrial, ...]
    count: int
    problem: Problem
    params: Params
    inside: np.ndarray
    split: str
    seed: int

    @property
    def one(self) -> TrainedTrial:
        """The trial itself."""
        return self.trained[0]

    @property
    def theta(self) -> jax.Array:
        """[n] the parameters as one vector."""
        return flat(self.params)[0]

    @property
    def like(self) -> jax.Array:
        """[m] the parameters of the block."""
        return self.theta[self.inside]

    @property
    def key(self) -> jax.Array:
        """The random key of the seed."""
        return jax.random.key(self.seed)

    def quantity(self, split: str, name: str, examples: int | None = None) -> Problem:
        """The mean of a metric over the first examples of a split."""
        return problem_on(self.opened, self.one, split, name, examples)[0]

    def operator(self, make: Callable[[Problem, Params], Operator]) -> Callable[..., Operator]:
        """(problem, params) -> the curvature of the block."""
        inside = None if self.inside.all() else self.inside

        def of(problem: Problem, params: Params) -> Operator:
            operator = make(problem, params)
            return operator if inside is None else block(operator, inside)

        return of


class CurvatureTables:
    """Rows of numbers of a trial and tables of curves, in the order in which they are added."""

    def __init__(self, trial: str) -> None:
        self.trial = trial
        self.rows: list[tuple[str, str, float, float | None, str]] = []
        self.curves: dict[str, pl.DataFrame] = {}

    def add(self, quantity: str, value: Any, error: Any = None, how: str = "") -> None:
        """Add a number with its uncertainty, where there is one."""
        known = None if error is None else float(error)
        self.rows.append((self.trial, quantity, float(value), known, how))


def problem_on(
    opened: OpenedRecord, one: TrainedTrial, split: str, quantity: str, examples: int | None
) -> tuple[Problem, Params]:
    """`problem_of` a trained trial over the first examples of a split, all where None."""
    part = opened.split(split)
    size = size_of(part) if examples is None else examples
    data = read_examples(part, np.arange(size))
    given = one.config, one.state, one.hyperparameters
    return problem_of(*given, data, max(1, one.rows), quantity=quantity)


def spectrum(subject: Subject, found: CurvatureTables, order: int, probes: int) -> None:
    """Both ends and trace of the Hessian and of the Gauss-Newton matrix; the rule's bound."""
    for name, make in (("Hessian", hessian), ("Gauss-Newton matrix", gauss_newton)):
        _ends(subject, found, name, make, order)
        _trace(subject, found, name, make, probes)
    _divided(subject, found, order)


def density(subject: Subject, found: CurvatureTables, order: int, draws: int) -> None:
    """The spectral density of the Hessian."""
    operator = subject.operator(hessian)(subject.problem, subject.params)
    drawn = spectral_density(operator, subject.like, subject.key, draws=draws, order=order)
    columns = {"eigenvalue": drawn.values, "density": drawn.density}
    found.curves["density"] = pl.DataFrame(columns)


Make = Callable[[Problem, Params], Operator]


def _ends(subject: Subject, found: CurvatureTables, name: str, make: Make, order: int) -> None:
    of, like, key = subject.operator(make), subject.like, subject.key
    order = min(order, like.size)
    both = jax.jit(lambda p, x: ends(of(p, x), like, key, order))(subject.problem, subject.params)
    how = f"{order} Lanczos steps, full reorthogonalisation"
    found.add(f"largest eigenvalue of the {name}", both.largest, both.largest_error, how)
    found.add(f"smallest eigenvalue of the {name}", both.smallest, both.smallest_error, how)


def _trace(subject: Subject, found: CurvatureTables, name: str, make: Make, probes: int) -> None:
    of, like, key = subject.operator(make), subject.like, subject.key
    few = like.size < 4
    estimate = hutchinson_trace if few else xtrace
    how = f"{'Hutchinson' if few else 'XTrace'}, {probes} probes; its standard error"
    value = jax.jit(lambda p, x: estimate(of(p, x), like, key, probes))(
        subject.problem, subject.params
    )
    found.add(f"trace of the {name}", value.value, value.error, how)


def _divided(subject: Subject, found: CurvatureTables, order: int) -> None:
    """The bound of the rule, and the preconditioned eigenvalue where it is of that."""
    one, optimizer = subject.one, subject.one.config.optimizer
    bound = threshold_now(optimizer, one.numbers_now)
    if bound is None:
        return
    if bound.matrix == "preconditioned":
        parts = divisor(optimizer, one.state.opt_state, one.state.step, one.numbers)
        diagonal = jnp.concatenate([jnp.ravel(part) for part in parts])

        def divided(problem: Problem, params: Params) -> Operator:
            return preconditioned(hessian(problem, params), diagonal)

        of, like, key = subject.operator(divided), subject.like, subject.key
        order = min(order, like.size)
        top = jax.jit(lambda p, x: ends(of(p, x), like, key, order))(
            subject.problem, subject.params
        )
        how = f"{order} Lanczos steps on D^-1/2 H D^-1/2, D of {optimizer}"
        found.add("preconditioned sharpness", top.largest, top.largest_error, how)
    at = f"of {optimizer} at the rate of this step, for the {bound.matrix} matrix"
    found.add("stability bound", bound.value, None, at)


def gradients(subject: Subject, found: CurvatureTables) -> None:
    """Statistics of the examples' gradients, and the error of a batch's against its size."""
    problem, params = subject.problem, subject.params
    statistics = gradient_statistics(problem, params)
    found.add("length of the mean gradient", math.sqrt(statistics.squared_norm))
    found.add("median length of an example's gradient", np.median(statistics.norms))
    found.add("trace of the gradients' covariance", statistics.trace)
    for name, noise in dual_noise(problem, params).items():
        how = "examples; error over length of the mean gradient, squared"
        found.add(f"noise scale, {name} norm", noise.scale, None, how)
    for theta in THETAS:
        how = f"least batch size at theta = {theta:g}"
        found.add(f"norm test, theta {theta:g}", statistics.norm_test(theta), None, how)
        inner = statistics.inner_product_test(theta)
        found.add(f"inner-product test, theta {theta:g}", inner, None, how)
    sizes = [2**k for k in range(subject.count.bit_length()) if 2**k < subject.count]
    without = [statistics.standard_error(b, replacement=False) for b in sizes]
    found.curves["errors"] = pl.DataFrame(
        {
            "batch_size": sizes,
            "measured": measured_errors(problem, params, subject.seed, sizes, DRAWN),
            "without_replacement": without,
            "with_replacement": [statistics.standard_error(b) for b in sizes],
        }
    )


def around(subject: Subject, found: CurvatureTables, examples: int) -> None:
    """The loss on a plane through the solution; all metrics on the paths to a second one."""
    first, second = (
        landscape.filter_normalised(key, subject.params) for key in jax.random.split(subject.key)
    )
    at = np.linspace(-1, 1, PLANE_POINTS)
    loss = {"loss": subject.problem}
    grid = landscape.plane(loss, subject.params, (first, second), at, at)["loss"]
    x, y = np.meshgrid(at, at, indexing="ij")
    columns = {"first": x.ravel(), "second": y.ravel(), "loss": grid.ravel()}
    found.curves["plane"] = pl.DataFrame(columns)
    if len(subject.trained) > 1:
        _lines(subject, found, _quantities(subject, examples))


def _quantities(subject: Subject, examples: int) -> dict[str, Problem]:
    """Every metric on training examples and on the split asked for."""
    found = {}
    for split in dict.fromkeys(("train", subject.split)):
        size = min(examples, subject.opened.dataset.size(split))
        for name in metric_names(subject.opened, subject.one):
            found[f"{split}/{name}"] = subject.quantity(split, name, size)
    return found


def _lines(subject: Subject, found: CurvatureTables, quantities: Mapping[str, Problem]) -> None:
    """The line, the arc and the curve to the second solution; the aligned line where units can be
    matched."""
    first = subject.params
    second = problem_on(subject.opened, subject.trained[1], "train", "objective", 1)[1]
    bend = landscape.trained_bend(subject.problem, first, second, subject.key, steps=BEND_STEPS)[0]
    paths = {
        "line": landscape.line(quantities, first, second),
        "arc": landscape.arc(quantities, first, second),
        "curve": landscape.bezier(quantities, first, bend, second),
    }
    try:
        order = matched_permutations(first, second, subject.seed)
    except ValueError:  # (another family of nets)
        pass
    else:
        matched = permuted(second, order)
        paths["line, units matched"] = landscape.line(quantities, first, matched)
    tables = [
        pl.DataFrame({"alpha": path.alphas, "value": path.values[name]}).with_columns(
            path=pl.lit(kind), quantity=pl.lit(name)
        )
        for kind, path in paths.items()
        for name in quantities
    ]
    found.curves["lines"] = pl.concat(tables)
    for kind, path in paths.items():
        for name in (name for name in quantities if name.startswith("train/")):
            how = "most above the straight line between its ends, over alpha from 0 to 1"
            found.add(f"barrier of the {kind}, {name}", path.barrier(name), None, how)


def metric_names(opened: OpenedRecord, trained: TrainedTrial) -> list[str]:
    """The names of a workload's metrics."""
    problem, params = problem_on(opened, trained, "train", "objective", 1)
    task = make_task(trained.config)
    chunk = jax.tree.map(lambda x: x[0], problem.chunks)

    def metrics(params: Params) -> Any:
        batch = {**chunk, "position": jnp.zeros(1, jnp.int32)}
        prepared = task.preprocess(batch, jax.random.key(0), False)
        return task.losses.metrics(problem.outputs(params, chunk), prepared)

    return list(jax.eval_shape(metrics, params))
