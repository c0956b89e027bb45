"""Do small batches find flatter and better minima than large ones on handwritten digits?

Command:   batchscale run small_and_large_digits
           batchscale run small_and_large_digits --smoke    (the same in miniature)
Time:      some 110 CPU-seconds.
Expected:  Keskar et al. (2017): large batches generalise worse and end in sharper minima. Hoffer et
           al. (2017): not at equal steps. Shallue et al. (2019): not at all where each batch size
           is tuned for its budget. So a gap at equal epochs, above all without retuning, and none
           at equal steps with it.

Three protocols can be read from one record. Points are quasi-random and the same at every batch
size, so trial i of every batch size has the same rate and momentum: *not retuned* is the best trial
of the smallest batch size, at the others; *retuned* is each batch size's own best. The step budget
compares at equal steps, the example budget at equal epochs. docs/small_and_large.md tells what was
found.
"""

import dataclasses

from experiments.spec.study import Study
from workloads.digits_fc import WORKLOAD

STUDY = Study(
    name="small_and_large_digits",
    question="Do small batches find flatter and better minima than large ones on digits?",
    expected=(
        "A gap at equal epochs, above all without retuning (Keskar et al. 2017); none at equal "
        "steps with it (Hoffer et al. 2017, Shallue et al. 2019)."
    ),
    workload=WORKLOAD,
    optimizer="nesterov",
    batch_sizes=(16, 64, 256, 1024),
    step_budget=600,
    example_budget=20 * 1024,
    trials=12,
    seeds=(0, 1, 2),
    sampler="halton",
    record_curvature=10,
)

SMOKE = dataclasses.replace(
    STUDY,
    name="small_and_large_digits-smoke",
    batch_sizes=(16, 1024),
    trials=3,
    seeds=(0,),
    step_budget=100,
    example_budget=4 * 1024,
)
