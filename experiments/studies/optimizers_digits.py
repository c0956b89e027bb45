"""Which optimizer reaches a validation error in the fewest steps, and which gets lowest?

Command:   batchscale run optimizers_digits
           batchscale run optimizers_digits --smoke    (a minute or two)
Time:      less than ten minutes on two CPU cores, most of it compiling thirty programs.
Expected:  at the smallest batch size little between them; at the largest, the whole training
           set, the adaptive and the orthogonalising rules ahead of plain SGD, as Zhang et al.
           (2019) and Choi et al. (2019) find of equally tuned optimizers. (Measured: 13 steps for
           Muon at batch size 1024, 34 to 38 for the Adam family, 60 Nesterov, 111 SGD.)

Every optimizer gets the same number of COMPLETE trials at every batch size, in its own default
search space for that number (the learning rate, the momentum or beta1, the weight decay where the
rule has one); a trial that diverges is replaced, at most three times over. The rate is constant,
so that no optimizer profits from another's schedule.
"""

import dataclasses

from experiments.spec.comparison import Comparison, of_optimizers
from experiments.spec.study import Study
from workloads.digits_fc import WORKLOAD

OPTIMIZERS = (
    "sgd", "momentum", "nesterov", "rmsprop", "adam", "nadam", "adamw", "lion", "lamb", "muon",
)  # fmt: skip

_ONE = Study(
    name="optimizers_digits",
    question="Which optimizer classifies handwritten digits in the fewest steps?",
    workload=WORKLOAD,
    batch_sizes=(16, 128, 1024),
    step_budget=300,
    example_budget=8 * 1024,
    trials=20,
)

STUDY = Comparison(
    name="optimizers_digits",
    question=(
        "Which optimizer reaches a validation error on handwritten digits in the fewest steps, "
        "and which gets lowest, with equal tuning?"
    ),
    studies=of_optimizers(_ONE, OPTIMIZERS),
    expected=(
        "The larger the batch, the further the adaptive rules are ahead of plain SGD "
        "(Zhang et al. 2019; Choi et al. 2019)."
    ),
)

SMOKE = dataclasses.replace(
    STUDY,
    name="optimizers_digits-smoke",
    studies=of_optimizers(
        dataclasses.replace(
            _ONE, name="optimizers_digits-smoke", trials=3, step_budget=60, example_budget=960
        ),
        ("sgd", "nesterov", "adam"),
    ),
)
