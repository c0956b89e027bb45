"""How do the steps to a validation error on handwritten digits fall as the batch grows?

Command:   batchscale run quickstart
Time:      100 s on two idle CPU cores, compilation, probe and report included.
Expected:  in proportion to 1/B (about 4,000 steps at B = 1) up to some forty examples, then hardly
           at all: about 60 steps from B = 128 on. With equal steps larger batches end at a
           lower error, with equal epochs smaller ones do.

The goal, the search space and the budgets are ours, from pilot runs: each batch size reaches the
goal in several of its trials, and the longest trials see the training set twenty times. Six
searches that learn nothing from one another give every number of steps an exact range; five of them
stop their trials at the goal or in a race, the first trains them to full length for the budgets.
"""

import dataclasses

from experiments.spec.study import Study
from workloads.digits_fc import WORKLOAD

STUDY = Study(
    name="quickstart",
    question=(
        "How do the steps to a validation error on handwritten digits fall as the batch grows?"
    ),
    expected="In proportion to 1/B up to some tens of examples, then hardly at all.",
    workload=WORKLOAD,
    optimizer="nesterov",
    batch_sizes=tuple(2**k for k in range(11)),
    step_budget=1000,
    example_budget=20 * 1024,
    trials=12,
    seeds=tuple(range(6)),
    sampler="rounds",
    stop="race",
)

SMOKE = dataclasses.replace(
    STUDY,
    name="quickstart-smoke",
    batch_sizes=(4, 64, 1024),
    trials=4,
    seeds=(0, 1),
    step_budget=100,
    example_budget=1024,
)
