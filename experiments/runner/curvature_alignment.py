"""The alignment of successive gradients, over the steps that follow a trial's best one."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from experiments.diagnostics.gradient_statistics import alignments
from experiments.diagnostics.problem import Params, Problem, flat
from experiments.runner.curvature_parts import CurvatureTables, Subject
from experiments.training.gradient import gradient, sums_of_next_step
from experiments.training.order import ExampleOrder
from experiments.training.state import TrainState, gather
from experiments.training.step import make_step


def alignment(subject: Subject, found: CurvatureTables, steps: int) -> None:
    """Cosines of each gradient with the next, of batches and of all measured examples.

    The trial goes on for ``steps`` steps, as it would have: its own batches, its rate by its
    schedule, past its end the last one. Gradients of batches are those of training, before
    clipping; those of the measured examples are in evaluation mode.
    """
    one = subject.one
    of_batches, of_examples = successive_gradients(subject, steps)
    curves = {
        "of batches": alignments(of_batches),
        "of the measured examples": alignments(of_examples),
    }
    words = f"mean cosine of {steps} gradients with the next, from step {one.step:,} on"
    hows = {
        "of batches": f"{words}, batches of {one.part.batch_size:,}; its standard error",
        "of the measured examples": f"{words}; its standard error",
    }
    for name, cosines in curves.items():
        error = cosines.std(ddof=1) / math.sqrt(len(cosines)) if len(cosines) > 1 else None
        found.add(f"alignment of successive gradients {name}", cosines.mean(), error, hows[name])
    tables = [
        pl.DataFrame({"step": one.step + np.arange(len(cosines)), "cosine": cosines}).with_columns(
            gradients=pl.lit(name)
        )
        for name, cosines in curves.items()
    ]
    found.curves["alignment"] = pl.concat(tables)


def successive_gradients(subject: Subject, steps: int) -> tuple[list[Params], list[Params]]:
    """(of the batches, of the measured examples): ``steps`` + 1 gradients each, before each step.

    On the host: memory of twice so many gradients.
    """
    one, opened = subject.one, subject.opened
    config, numbers, size = one.config, one.numbers, one.part.batch_size
    order = ExampleOrder(one.trial.seed, one.trial.index, opened.data.examples)
    order.take(one.part.examples + (one.step - one.part.step) * size)
    step = make_step(config)

    @jax.jit
    def forward(
        problem: Problem, state: TrainState, batch: dict[str, jax.Array]
    ) -> tuple[TrainState, Params, Params]:
        sums = sums_of_next_step(config, state, numbers)
        _, of_batch, _ = gradient(sums, state.params, batch, None)
        return step(state, numbers, batch)[0], of_batch, problem.gradient(state.params)

    state, found = one.state, ([], [])  # type: ignore[var-annotated]
    for _ in range(steps + 1):
        batch = gather(opened.data.train, jnp.asarray(order.take(size)))
        state, *both = forward(subject.problem, state, batch)
        for held, tree in zip(found, both, strict=True):
            held.append(np.asarray(flat(tree)[0]))
    return found
