"""Does the gradient noise scale foretell the critical batch size on handwritten digits?

Command:   batchscale run noise_scale_digits
           batchscale run noise_scale_digits --smoke    (under a minute)
Time:      under two minutes on two CPU cores.
Expected:  McCandlish et al. (2018, table 1) found B_simple above the noise critical batch size, by
           a factor of 1.3 to 8 on image classification, and both growing as training goes on.
Found:     the noise critical batch size is 62 (41 to 73) and perfect scaling ends at 58 (20 to 76).
           B_simple at the goal lies between 38 (at a batch size of 8) and 136 (at 256), so by a
           factor of 0.6 to 2.2 beside the noise critical batch size, and grows with the batch. At
           2, 4 and 16, and from 512 on, the gradient cannot be told from its noise there.

The question, the budgets and the six searches are those of quickstart, without the batch size of
one, which has no second size to compare with; the noise is read from the first search, which trains
to full length. B_simple is no critical batch size: it knows neither the curvature nor
the learning rate, and it grows as the loss falls.
"""

import dataclasses

from experiments.spec.study import Study
from workloads.base import Goal
from workloads.digits_fc import WORKLOAD

STUDY = Study(
    name="noise_scale_digits",
    question=(
        "Does the gradient noise scale foretell the critical batch size on handwritten digits?"
    ),
    expected=(
        "Above the noise critical batch size at the goal, by a factor of 1.3 to 8, and growing in "
        "training (McCandlish et al. 2018)."
    ),
    workload=WORKLOAD,
    optimizer="nesterov",
    batch_sizes=tuple(2**k for k in range(1, 11)),
    step_budget=1000,
    example_budget=20 * 1024,
    trials=12,
    seeds=tuple(range(6)),
    stop="race",
    record_noise=True,
)

SMOKE = dataclasses.replace(
    STUDY,
    name="noise_scale_digits-smoke",
    batch_sizes=(8, 64, 1024),
    trials=4,
    seeds=(0,),
    step_budget=150,
    example_budget=4 * 1024,
    goal=Goal("classification_error", 0.1),
)
