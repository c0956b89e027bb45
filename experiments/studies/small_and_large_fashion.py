"""Do small batches find flatter and better minima than large ones on Fashion-MNIST?

Command:   batchscale run small_and_large_fashion
           batchscale run small_and_large_fashion --smoke    (the same in miniature)
Time:      220 CPU-seconds on two shared cores.
Expected:  as small_and_large_digits: a gap at equal epochs, above all without retuning (Keskar et
           al. 2017); none at equal steps with it (Hoffer et al. 2017, Shallue et al. 2019).

The first 10,000 training images, so that a CPU carries a batch of a fifth of the training set; the
momentum is held at 0.9 and five rates are tried, the same at every batch size, by three searches.
docs/small_and_large.md tells what was found.
"""

import dataclasses

from experiments.spec.space import Real
from experiments.spec.study import Study
from workloads.fashion_mnist_fc import WORKLOAD

TRAIN_EXAMPLES = 10_000
SMALLER = dataclasses.replace(
    WORKLOAD,
    name=f"fashion_mnist_fc_{TRAIN_EXAMPLES}",
    dataset_options={"train_examples": TRAIN_EXAMPLES},
)

STUDY = Study(
    name="small_and_large_fashion",
    question="Do small batches find flatter and better minima than large ones on Fashion-MNIST?",
    expected=(
        "A gap at equal epochs, above all without retuning (Keskar et al. 2017); none at equal "
        "steps with it (Hoffer et al. 2017, Shallue et al. 2019)."
    ),
    workload=SMALLER,
    optimizer="nesterov",
    space={"learning_rate": Real(2e-3, 0.5, "log")},
    fixed={"momentum": 0.9},
    batch_sizes=(32, 256, 2048),
    step_budget=400,
    example_budget=10 * TRAIN_EXAMPLES,
    trials=5,
    seeds=(0, 1, 2),
    sampler="halton",
    evaluation_spacing=0.1,
    record_curvature=10,
)

SMOKE = dataclasses.replace(
    STUDY,
    name="small_and_large_fashion-smoke",
    workload=dataclasses.replace(
        SMALLER, dataset_options={"train_examples": 2000, "validation_examples": 500}
    ),
    batch_sizes=(32, 512),
    trials=2,
    seeds=(0,),
    step_budget=30,
    example_budget=2000,
)
