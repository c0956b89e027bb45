"""Should Adam's beta2 keep its value, or its half-life in examples, when the batch changes?

Command:   batchscale run beta2_digits
           batchscale run beta2_digits --smoke    (the same in miniature)
Time:      about three minutes on two busy CPU cores.
Expected:  the best beta2 falls as the batch grows, and a half-life in examples loses little at any
           batch size where a fixed beta2 loses much at one end (Marek et al. 2025, of language
           models; on digits 0.999, 0.95 and 0.5 were best at 1, 8 and 64 examples).

Adam without momentum (beta1 = 0), so that beta2 alone averages; linear decay to zero over eight
epochs; the rate is searched everywhere, and the best training cross entropy under the epoch budget
is compared. The half-life is that of 0.95 at eight examples.
"""

import dataclasses

from experiments.spec.comparison import Comparison
from experiments.spec.space import Real
from experiments.spec.study import Study
from experiments.spec.trial import Transfer
from workloads.base import Goal
from workloads.digits_fc import WORKLOAD

RATE = {"learning_rate": Real(1e-4, 0.1, "log")}
KEPT = (0.5, 0.95, 0.999)


def _study(name: str, label: str, beta2: float, **changes: object) -> Study:
    one = Study(
        name=f"{name}-{label}",
        question="Should Adam's beta2 keep its value, or its half-life in examples?",
        workload=WORKLOAD,
        optimizer="adam",
        schedule="linear",
        batch_sizes=(2, 8, 64, 512),
        goal=Goal("cross_entropy", 0.03, split="train"),
        step_budget=1,
        example_budget=8 * 1024,
        space=RATE,
        fixed={"beta1": 0.0, "beta2": beta2, "epsilon": 1e-8, "warmup_steps": 0.0,
               "end_learning_rate_factor": 0.0, "decay_steps_factor": 1.0},
        trials=7,
        seeds=tuple(range(6)),
        sampler="halton",
        train_evaluation_examples=1024,
    )  # fmt: skip
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


def _studies(name: str, **changes: object) -> dict[str, Study]:
    kept = {f"beta2={b:g}": _study(name, f"{b:g}", b, **changes) for b in KEPT}
    half_life = _study(name, "half_life", 0.95, rule=Transfer("half_life", 8), **changes)
    return {**kept, "half_life": half_life}


STUDY = Comparison(
    name="beta2_digits",
    question="Should Adam's beta2 keep its value, or its half-life in examples?",
    studies=_studies("beta2_digits"),
    expected="The half-life: the best beta2 falls as the batch grows.",
)

SMOKE = dataclasses.replace(
    STUDY,
    name="beta2_digits-smoke",
    studies=_studies("beta2_digits-smoke", batch_sizes=(8, 64), trials=3, seeds=(0,)),
)
