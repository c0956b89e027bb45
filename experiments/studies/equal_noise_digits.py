"""Is it the noise scale eta N / (B (1 - m)) alone that the error depends on?

Command:   batchscale run equal_noise_digits
           batchscale run equal_noise_digits --smoke    (the same in miniature)
Time:      23 CPU-seconds, of 216 trials.
Expected:  Smith et al. (2018): at equal epochs the same error wherever B is proportional to
           eta / (1 - m), as long as B is far below N; from a tenth of N on, and with a momentum
           near one, a larger error, since there are too few updates.

Three momenta, each with its own range of rates: a factor 1 - m of plain SGD's. The rate follows the
batch size linearly. The points are quasi-random and the same everywhere, so trials of one index
have one noise scale at every batch size and momentum, and differ only in these.
"""

import dataclasses

from experiments.spec.comparison import Comparison
from experiments.spec.space import Real
from experiments.spec.study import Study
from experiments.spec.trial import Transfer
from workloads.digits_fc import WORKLOAD

MOMENTA = (0.0, 0.5, 0.9)
BATCH_SIZES = (8, 32, 128, 512)
LOW, HIGH = 2e-3, 0.2
"""Of plain SGD's rate at the smallest batch size."""


def _study(name: str, momentum: float, **changes: object) -> Study:
    share = 1 - momentum
    one = Study(
        name=f"{name}-{momentum:g}",
        question="Is it the noise scale alone that the error depends on?",
        workload=dataclasses.replace(WORKLOAD, search_spaces={}),
        optimizer="momentum",
        space={"learning_rate": Real(LOW * share, HIGH * share, "log")},
        fixed={"momentum": momentum},
        rule=Transfer("linear", BATCH_SIZES[0]),
        batch_sizes=BATCH_SIZES,
        step_budget=1,
        example_budget=20 * 1024,
        trials=6,
        seeds=(0, 1, 2),
        sampler="halton",
        evaluation_spacing=0.1,
    )
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


def _studies(name: str, **changes: object) -> dict[str, Study]:
    return {f"momentum={m:g}": _study(name, m, **changes) for m in MOMENTA}


STUDY = Comparison(
    name="equal_noise_digits",
    question="Is it the noise scale alone that the error depends on?",
    studies=_studies("equal_noise_digits"),
    expected="The same error at equal noise scale, as long as the batch is far below N.",
)

SMOKE = dataclasses.replace(
    STUDY,
    name="equal_noise_digits-smoke",
    studies=_studies(
        "equal_noise_digits-smoke", batch_sizes=(8, 128), trials=2, seeds=(0,), example_budget=1024
    ),
)
