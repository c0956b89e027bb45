"""How far does data parallelism scale for a fully connected net on Fashion-MNIST?

Command:   batchscale run fashion_mnist_fc            (a CPU carries it)
           batchscale run fashion_mnist_fc --smoke    (a minute)
Expected:  perfect scaling over a shorter range than the Simple CNN's, then diminishing returns.

The net is FC 128x3 of Shallue et al. (2019), there trained on MNIST; goal, search space and
budgets are ours.
"""

import dataclasses

from experiments.spec.study import Study
from workloads.fashion_mnist_fc import WORKLOAD

STUDY = Study(
    name="fashion_mnist_fc",
    question="How far does data parallelism scale for a fully connected net on Fashion-MNIST?",
    expected="Perfect scaling, then diminishing returns, then none.",
    workload=WORKLOAD,
    optimizer="nesterov",
    batch_sizes=(8, 32, 128, 512, 2048, 8192),
    step_budget=400,
    example_budget=4 * 55_000,
    trials=20,
)

SMOKE = dataclasses.replace(
    STUDY,
    name="fashion_mnist_fc-smoke",
    batch_sizes=(32, 256, 2048),
    step_budget=50,
    example_budget=16_384,
    trials=4,
    evaluation_spacing=0.25,
)
