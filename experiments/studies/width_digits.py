"""Does a wider net scale to larger batches?

Command:   batchscale run width_digits
           batchscale run width_digits --smoke    (the same in miniature)
Time:      under two minutes on two CPU cores.
Expected:  steps fall with the width at every batch size; whether the useful batch grows with it
           depended on the family in Shallue et al. (2019): no clear order for fully connected nets
           and simple CNNs, a smaller one for wider Transformers.

Fully connected nets with two hidden layers of 16, 64 and 256 units, each tuned at every batch size.
"""

import dataclasses

from experiments.spec.comparison import Comparison
from experiments.spec.study import Study
from workloads.digits_fc import WORKLOAD

WIDTHS = (16, 64, 256)


def _study(name: str, width: int, **changes: object) -> Study:
    workload = dataclasses.replace(
        WORKLOAD,
        name=f"digits_fc_{width}",
        model_options={"hidden_sizes": [width, width], "classes": 10},
    )
    one = Study(
        name=f"{name}-{width}",
        question="Does a wider net scale to larger batches?",
        workload=workload,
        batch_sizes=(8, 32, 128, 512),
        step_budget=400,
        example_budget=10 * 1024,
        trials=12,
        seeds=tuple(range(6)),
        stop="race",
    )
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


STUDY = Comparison(
    name="width_digits",
    question="Does a wider net scale to larger batches?",
    studies={f"width={width}": _study("width_digits", width) for width in WIDTHS},
    expected="Fewer steps with the width; no clear order of the useful batch sizes.",
    differ=("workload",),
)

SMOKE = dataclasses.replace(
    STUDY,
    name="width_digits-smoke",
    studies={
        f"width={width}": _study(
            "width_digits-smoke", width, batch_sizes=(16, 256), trials=3, seeds=(0,),
            step_budget=60, example_budget=960, stop="never",
        )
        for width in WIDTHS[:2]
    },
)  # fmt: skip
