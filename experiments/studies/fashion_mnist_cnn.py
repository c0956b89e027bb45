"""How far does data parallelism scale for the Simple CNN on Fashion-MNIST?

Command:   batchscale run fashion_mnist_cnn            (an accelerator)
           batchscale run fashion_mnist_cnn --smoke    (a CPU, minutes)
Expected:  as in Shallue et al. (2019, Figure 1): the steps to 10 % validation error fall in
           proportion to 1/B up to some hundreds of examples, then more slowly, then not at all.

Workload, goal and batch sizes are those of the paper's data release; search space and budgets
are ours.
"""

import dataclasses

from experiments.spec.study import Study
from workloads.fashion_mnist_cnn import WORKLOAD

STUDY = Study(
    name="fashion_mnist_cnn",
    question="How far does data parallelism scale for the Simple CNN on Fashion-MNIST?",
    expected="Perfect scaling, then diminishing returns, then none (Shallue et al. 2019, Fig. 1).",
    workload=WORKLOAD,
    optimizer="nesterov",
    batch_sizes=(2, 8, 32, 128, 512, 2048, 8192, 32768, 55000),
    step_budget=2000,
    example_budget=20 * 55_000,
    trials=100,
)

SMOKE = dataclasses.replace(
    STUDY,
    name="fashion_mnist_cnn-smoke",
    batch_sizes=(32, 128, 512),
    step_budget=20,
    example_budget=2048,
    trials=2,
    # 5,000 validation images cost as much as thirty steps at B = 64, so evaluate at 1, 2, 4, ...
    evaluation_spacing=1.0,
)
