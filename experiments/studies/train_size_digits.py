"""Does the useful batch size depend on the size of the training set?

Command:   batchscale run train_size_digits
           batchscale run train_size_digits --smoke    (the same in miniature)
Time:      under a minute on two CPU cores.
Expected:  hardly: on subsets of MNIST the largest useful batch size did not move with the size of
           the training set, as long as the batch is smaller than it (Shallue et al. 2019).

A quarter, a half and all of the 1,024 training digits, with equal steps and equal examples. The
goal is one that a quarter of them reaches.
"""

import dataclasses

from experiments.spec.comparison import Comparison
from experiments.spec.study import Study
from workloads.base import Goal
from workloads.digits_fc import WORKLOAD

SIZES = (256, 512, 1024)


def _study(name: str, examples: int, **changes: object) -> Study:
    workload = dataclasses.replace(
        WORKLOAD, name=f"digits_fc_{examples}", dataset_options={"train_examples": examples}
    )
    one = Study(
        name=f"{name}-{examples}",
        question="Does the useful batch size depend on the size of the training set?",
        workload=workload,
        batch_sizes=(4, 16, 64, 256),
        goal=Goal("classification_error", 0.1),
        step_budget=200,
        example_budget=8 * 1024,
        trials=12,
        seeds=tuple(range(6)),
        stop="race",
    )
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


STUDY = Comparison(
    name="train_size_digits",
    question="Does the useful batch size depend on the size of the training set?",
    studies={f"examples={examples}": _study("train_size_digits", examples) for examples in SIZES},
    expected="Hardly, as long as the batch is smaller than the training set.",
    differ=("workload",),
)

SMOKE = dataclasses.replace(
    STUDY,
    name="train_size_digits-smoke",
    studies={
        f"examples={examples}": _study(
            "train_size_digits-smoke", examples, batch_sizes=(16, 256), trials=3, seeds=(0,),
            step_budget=60, example_budget=960, stop="never",
        )
        for examples in SIZES
    },
)  # fmt: skip
