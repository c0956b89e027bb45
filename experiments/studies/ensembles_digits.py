"""Which of the four kinds of ensembles is worth how much on handwritten digits?

Command:   batchscale run ensembles_digits
           batchscale run ensembles_digits --smoke    (the same in miniature)
           batchscale ensemble runs/ensembles_digits --kind inits top checkpoints average --size 5
Time:      14 CPU-seconds, and 35 for the four kinds of all six searches.
Expected:  no order of the kinds. CS231n's notes: a few points of a per cent each; several
           initialisations differ by chance alone, checkpoints of one run are cheap and differ less.

Six independent searches at one batch size, for exact ranges over searches.
`python -m benchmarks.ensembles` compares the four kinds; docs/ensembles.md shows what was found.
"""

import dataclasses

from experiments.spec.study import Study
from workloads.digits_fc import WORKLOAD

STUDY = Study(
    name="ensembles_digits",
    question="Which of the four kinds of ensembles is worth how much on digits?",
    expected="No order of the kinds is presumed.",
    workload=WORKLOAD,
    optimizer="nesterov",
    batch_sizes=(32,),
    step_budget=1,
    example_budget=20 * 1024,
    trials=8,
    seeds=(0, 1, 2, 3, 4, 5),
    sampler="halton",
    evaluation_spacing=0.1,
)

SMOKE = dataclasses.replace(
    STUDY, name="ensembles_digits-smoke", trials=3, seeds=(0, 1), example_budget=2048
)
