"""Which of the four kinds of ensembles is worth how much on Fashion-MNIST?

Command:   batchscale run ensembles_fashion
           batchscale run ensembles_fashion --smoke    (the same in miniature)
           batchscale ensemble runs/ensembles_fashion --kind inits top checkpoints average --size 4
Time:      58 CPU-seconds for the searches.
Expected:  no order of the kinds, as ensembles_digits.

The first 10,000 training images and a momentum of 0.9; six searches of five rates each.
"""

import dataclasses

from experiments.studies.ensembles_digits import STUDY as DIGITS
from experiments.studies.small_and_large_fashion import SMALLER, TRAIN_EXAMPLES
from experiments.studies.small_and_large_fashion import SMOKE as SMALLEST
from experiments.studies.small_and_large_fashion import STUDY as FASHION

STUDY = dataclasses.replace(
    DIGITS,
    name="ensembles_fashion",
    question="Which of the four kinds of ensembles is worth how much on Fashion-MNIST?",
    workload=SMALLER,
    space=FASHION.space,
    fixed=FASHION.fixed,
    batch_sizes=(64,),
    example_budget=8 * TRAIN_EXAMPLES,
    trials=5,
    evaluation_spacing=0.2,
)

SMOKE = dataclasses.replace(
    STUDY, name="ensembles_fashion-smoke", workload=SMALLEST.workload, trials=2, seeds=(0, 1),
    example_budget=2000,
)  # fmt: skip
