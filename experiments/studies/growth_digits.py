"""Does growing the batch do what decaying the rate does, with fewer updates?

Command:   batchscale run growth_digits
           batchscale run growth_digits --smoke    (the same in miniature)
Time:      about a minute on two CPU cores.
Expected:  the same error after the same examples, with fewer updates, as long as batches stay below
           the critical batch size (Smith et al. 2018, for SGD's noise scale); Seesaw, a rule for
           normalised updates (Meterez et al. 2025), ends higher or lower with momentum SGD.

SGD with momentum 0.9; the rate falls by four at a half and at three quarters of the examples, or
the batch grows by four there, or Seesaw's half and half. Batch sizes are those of the first step;
the epoch budget is the length. `batchscale growth` computes the same on the noisy quadratic model.
"""

import dataclasses

from experiments.spec.comparison import Comparison
from experiments.spec.space import Real
from experiments.spec.study import Study
from workloads.base import Goal
from workloads.digits_fc import WORKLOAD

EXAMPLES = 16 * 1024
CUTS = (EXAMPLES // 2, EXAMPLES * 3 // 4)
RATE = {"learning_rate": Real(1e-3, 1.0, "log")}
DECAY = {"momentum": 0.9, "decay_factor": 0.25, "milestone_1": 0.5,
         "milestone_2": 0.75, "milestone_3": 1.0}  # fmt: skip


def _study(name: str, label: str, **changes: object) -> Study:
    one = Study(
        name=f"{name}-{label}",
        question="Does growing the batch do what decaying the rate does, with fewer updates?",
        workload=dataclasses.replace(WORKLOAD, search_spaces={}),
        optimizer="momentum",
        batch_sizes=(8, 32, 128),
        goal=Goal("classification_error", 0.03),
        step_budget=1,
        example_budget=EXAMPLES,
        space=RATE,
        trials=8,
        seeds=tuple(range(6)),
        sampler="halton",
    )
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


def _studies(name: str, **changes: object) -> dict[str, Study]:
    grows = {"batch_size_cuts": CUTS, "batch_size_factor": 4.0, "fixed": {"momentum": 0.9}}
    return {
        "decaying_rate": _study(name, "decay", schedule="staircase", fixed=DECAY, **changes),
        "growing_batch": _study(name, "smith", batch_size_schedule="smith", **grows, **changes),
        "seesaw": _study(name, "seesaw", batch_size_schedule="seesaw", **grows, **changes),
        "constant": _study(name, "constant", fixed={"momentum": 0.9}, **changes),
    }


STUDY = Comparison(
    name="growth_digits",
    question="Does growing the batch do what decaying the rate does, with fewer updates?",
    studies=_studies("growth_digits"),
    expected="The same error after the same examples, with fewer updates, at small batch sizes.",
)

SMOKE = dataclasses.replace(
    STUDY,
    name="growth_digits-smoke",
    studies=_studies("growth_digits-smoke", batch_sizes=(32,), trials=3, seeds=(0,)),
)
