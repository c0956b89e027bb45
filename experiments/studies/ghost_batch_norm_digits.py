"""Does ghost batch norm close the large batch's gap on handwritten digits?

Command:   batchscale run ghost_batch_norm_digits
           batchscale run ghost_batch_norm_digits --smoke    (the same in miniature)
Time:      under a minute of one CPU core.
Expected:  Hoffer et al. (2017): part of the large batch's gap at equal epochs is due to batch norm
           over the whole of it; statistics of small ghost batches take that part away.

One net with batch norm over the whole batch, over ghost batches of 16 examples, and without any.
At a batch size of 16 both batch norms are the same net. Quasi-random points, the same everywhere;
three searches.
"""

import dataclasses

from experiments.spec.comparison import Comparison
from experiments.spec.study import Study
from workloads.digits_fc import WORKLOAD

GHOST = 16
OPTIONS: dict[str, dict[str, object]] = {
    "whole": {"normalization": "batch", "ghost_size": None},
    f"ghost={GHOST}": {"normalization": "batch", "ghost_size": GHOST},
    "none": {"normalization": "none"},
}


def _study(name: str, label: str, **changes: object) -> Study:
    workload = dataclasses.replace(
        WORKLOAD,
        name=f"digits_fc_{label.replace('=', '_')}",
        model_options={**WORKLOAD.model_options, **OPTIONS[label]},
    )
    one = Study(
        name=f"{name}-{label}",
        question="Does ghost batch norm close the large batch's gap on digits?",
        workload=workload,
        optimizer="nesterov",
        batch_sizes=(16, 128, 1024),
        step_budget=200,
        example_budget=10 * 1024,
        trials=8,
        seeds=(0, 1, 2),
        sampler="halton",
        evaluation_spacing=0.1,
    )
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


STUDY = Comparison(
    name="ghost_batch_norm_digits",
    question="Does ghost batch norm close the large batch's gap on digits?",
    studies={label: _study("ghost_batch_norm_digits", label) for label in OPTIONS},
    expected="A smaller error at equal epochs and large batches than with norm over the whole.",
    differ=("workload",),
)

SMOKE = dataclasses.replace(
    STUDY,
    name="ghost_batch_norm_digits-smoke",
    studies={
        label: _study(
            "ghost_batch_norm_digits-smoke", label, batch_sizes=(16, 256), trials=2, seeds=(0,),
            step_budget=30, example_budget=1024,
        )
        for label in list(OPTIONS)[:2]
    },
)  # fmt: skip
