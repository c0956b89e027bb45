"""Does momentum extend perfect scaling on handwritten digits?

Command:   batchscale run momentum_digits
           batchscale run momentum_digits --smoke    (the same in miniature)
Time:      under two minutes on two CPU cores.
Expected:  the three rules alike at small batch sizes; at large ones momentum and Nesterov need
           fewer steps than plain SGD, and their perfect scaling ends later (Shallue et al. 2019;
           Zhang et al. 2019).

Six searches each, tuned alike: the rate, and the momentum where there is one. Momentum 0 is in its
range, so that a rule with momentum needs more steps than plain SGD by no more than its larger space
costs. The searches stop at the goal or in a race; the goal and the budgets are ours, from pilot
runs.
"""

import dataclasses

from experiments.spec.comparison import Comparison
from experiments.spec.study import Study
from experiments.studies.optimizers_digits import searched
from workloads.digits_fc import WORKLOAD

_PLAIN = dataclasses.replace(WORKLOAD, search_spaces={})

_ONE = Study(
    name="momentum_digits",
    question="Does momentum extend perfect scaling on handwritten digits?",
    workload=_PLAIN,
    optimizer="sgd",
    batch_sizes=(4, 16, 64, 256, 1024),
    step_budget=400,
    example_budget=10 * 1024,
    trials=18,
    seeds=tuple(range(6)),
    stop="race",
    expand=False,  # widened, the spaces would not contain each other any more
)

RULES = ("sgd", "momentum", "nesterov")

STUDY = Comparison(
    name="momentum_digits",
    question="Does momentum extend perfect scaling on handwritten digits?",
    studies=searched(_ONE, RULES),
    expected="Alike at small batch sizes; momentum ahead, and perfect for longer, at large ones.",
)

SMOKE = dataclasses.replace(
    STUDY,
    name="momentum_digits-smoke",
    studies=searched(
        dataclasses.replace(
            _ONE, name="momentum_digits-smoke", batch_sizes=(16, 256), trials=3, seeds=(0,),
            step_budget=60, example_budget=960,
        ),
        RULES,
    ),
)  # fmt: skip
