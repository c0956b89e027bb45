"""How do the steps to a validation error on handwritten digits fall as the batch grows?

Command:   batchscale run quickstart
Time:      about 90 s on two CPU cores, compilation included.
"""

import dataclasses

from experiments.study import Study
from workloads.digits_fc import WORKLOAD

STUDY = Study(
    name="quickstart",
    question="How do the steps to a validation error on handwritten digits fall as the batch grows?",
    workload=WORKLOAD,
    optimizer="nesterov",
    batch_sizes=tuple(2**k for k in range(11)),
    step_budget=1000,
    example_budget=20 * 1024,
    trials=24,
)

SMOKE = dataclasses.replace(
    STUDY,
    name="quickstart-smoke",
    batch_sizes=(4, 64, 1024),
    trials=4,
    step_budget=100,
    example_budget=1024,
)
