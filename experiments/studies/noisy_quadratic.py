"""Does a whole study find the steps that the noisy quadratic model is known to need?

Command:   batchscale run noisy_quadratic
           batchscale run noisy_quadratic --smoke    (half a minute)
Time:      about a minute on two CPU cores.
Expected:  the exact recursion gives the steps after which the *expected* loss of the best plain
           SGD is below the goal (`EXACT`). The study sees sampled losses at the steps of its
           evaluation grid, and takes the first of twenty quasi-random trials to get there; so
           its curve has the same knee and lies lower, by up to two fifths at small batch sizes,
           where one loss varies most, and hardly at large ones.

The model is that of Zhang et al. (2019) in 100 dimensions, a size of ours. `batchscale nqm` has
their table in 10,000 dimensions.
"""

import dataclasses

from experiments.spec.space import Real
from experiments.spec.study import Study
from workloads.noisy_quadratic import WORKLOAD

EXACT = {16: 2037, 32: 1039, 64: 539, 128: 288, 256: 169, 512: 116, 1024: 94}
"""Batch size -> steps, of `workloads.oracles.grid.steps_table` (tests hold them to it)."""

STUDY = Study(
    name="noisy_quadratic",
    question="Does a study find the steps that the noisy quadratic model is known to need?",
    expected="The recursion's steps, at small batch sizes up to two fifths fewer: "
    + ", ".join(f"{steps} at B = {batch_size}" for batch_size, steps in EXACT.items())
    + ".",
    workload=WORKLOAD,
    optimizer="sgd",
    batch_sizes=tuple(EXACT),
    step_budget=200,
    example_budget=64_000,
    trials=20,
    sampler="halton",
    train_evaluation_examples=1,
    space={"learning_rate": Real(0.03, 1.9, "log")},
)

SMOKE = dataclasses.replace(
    STUDY, name="noisy_quadratic-smoke", batch_sizes=(64, 256, 1024), trials=10
)
