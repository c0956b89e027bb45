"""Which optimizer reaches a validation error in the fewest steps, and which gets lowest?

Command:   batchscale run optimizers_digits
           batchscale run optimizers_digits --smoke    (a minute or two)
Time:      some five minutes on two CPU cores, by its parts; not timed whole without interruption.
Expected:  at the smallest batch size little between them; at the largest, the whole training
           set, the adaptive and the orthogonalising rules ahead of plain SGD, as Zhang et al.
           (2019) and Choi et al. (2019) find of equally tuned optimizers. No rule needs more steps
           than its special case by more than its larger space costs.

Every optimizer gets six searches of the same number of counted trials at every batch size, which
stop once they cannot be the best. SGD, momentum, Nesterov, Adam and NAdam have spaces that contain
each other: momentum 0 is SGD; Adam with an epsilon of 1, which is large beside its gradients, and
NAdam go over into momentum and Nesterov's at every rate and momentum of theirs. The others search
their default space for that number of trials. The rate is constant, so that no optimizer profits
from another's schedule.
"""

import dataclasses
from collections.abc import Sequence

from experiments.spec.comparison import Comparison, of_optimizers
from experiments.spec.space import Distribution, Real
from experiments.spec.study import Study
from workloads.digits_fc import WORKLOAD

OPTIMIZERS = (
    "sgd", "momentum", "nesterov", "rmsprop", "adam", "nadam", "adamw", "lion", "lamb", "muon",
)  # fmt: skip

_MOMENTUM = Real(0.0, 0.99, "reverse_log")
_RATE: dict[str, Distribution] = {"learning_rate": Real(1e-3, 10.0, "log")}
_ADAPTIVE: dict[str, Distribution] = {
    "learning_rate": Real(1e-4, 1e3, "log"),  # a / (1 - m) at epsilon 1: momentum at rate a
    "beta1": _MOMENTUM,
    "beta2": Real(0.0, 0.999, "reverse_log"),
    "epsilon": Real(1e-8, 1.0, "log"),
}
NESTED = {
    "sgd": _RATE,
    "momentum": {**_RATE, "momentum": _MOMENTUM},
    "nesterov": {**_RATE, "momentum": _MOMENTUM},
    "adam": _ADAPTIVE,
    "nadam": _ADAPTIVE,
}
"""Spaces that contain each other."""


def searched(study: Study, optimizers: Sequence[str]) -> dict[str, Study]:
    """One study an optimizer, in its space of `NESTED` where it has one."""
    return {
        name: dataclasses.replace(found, space=NESTED.get(name))
        for name, found in of_optimizers(study, optimizers).items()
    }


_ONE = Study(
    name="optimizers_digits",
    question="Which optimizer classifies handwritten digits in the fewest steps?",
    workload=WORKLOAD,
    batch_sizes=(16, 128, 1024),
    step_budget=300,
    example_budget=8 * 1024,
    trials=20,
    seeds=tuple(range(6)),
    stop="race",
    expand=False,  # widened, the spaces would not contain each other any more
)

STUDY = Comparison(
    name="optimizers_digits",
    question=(
        "Which optimizer reaches a validation error on handwritten digits in the fewest steps, "
        "and which gets lowest, with equal tuning?"
    ),
    studies=searched(_ONE, OPTIMIZERS),
    expected=(
        "The larger the batch, the further the adaptive rules are ahead of plain SGD "
        "(Zhang et al. 2019; Choi et al. 2019)."
    ),
)

SMOKE = dataclasses.replace(
    STUDY,
    name="optimizers_digits-smoke",
    studies=searched(
        dataclasses.replace(
            _ONE,
            name="optimizers_digits-smoke",
            batch_sizes=(16, 1024),
            trials=3,
            step_budget=60,
            example_budget=960,
            seeds=(0, 1),
        ),
        ("sgd", "nesterov", "adam"),
    ),
)
