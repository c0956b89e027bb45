"""Which batch size is best for a fixed number of steps, and which for a fixed number of epochs?

Command:   batchscale run budgets_digits
           batchscale run budgets_digits --smoke    (the same in miniature)
Time:      minutes on two CPU cores; not timed on idle ones.
Expected:  given steps the larger batch ends lower, given epochs the smaller one does, and the best
           batch size moves up with the step budget but not with the epoch budget (Shallue et al.
           2019, figure 11; the Tuning Playbook).

Six searches that all train to full length, so that both budgets have an exact range.
"""

import dataclasses

from experiments.spec.study import Study
from workloads.digits_fc import WORKLOAD

STUDY = Study(
    name="budgets_digits",
    question=(
        "Which batch size is best for a fixed number of steps, and which for a fixed number of "
        "epochs?"
    ),
    expected="Given steps the larger ones, given epochs the smaller ones.",
    workload=WORKLOAD,
    optimizer="nesterov",
    batch_sizes=(2, 8, 32, 128, 512, 1024),
    step_budget=200,
    example_budget=8 * 1024,
    trials=8,
    seeds=tuple(range(6)),
)

SMOKE = dataclasses.replace(
    STUDY,
    name="budgets_digits-smoke",
    batch_sizes=(8, 64, 512),
    trials=3,
    seeds=(0, 1),
    step_budget=60,
    example_budget=1024,
)
