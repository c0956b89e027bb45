"""Does a large batch that starts from a small batch's parameters find what small batches find?

Command:   batchscale run warm_start_digits
           batchscale run warm_start_digits --smoke    (the same in miniature)
Time:      64 CPU-seconds.
Expected:  Keskar et al. (2017, Figure 5): after enough epochs of small batches the large batch
           keeps their error and their flatness; from the start it has neither.

Adam at its default rate, as in the paper, which has small batches of 256 and large ones of a tenth
of the training set. Here the batch grows from 16 to 256 after some epochs and 20 more follow, so
that every member ends with the same number of large steps. Adam's moments go on (the paper does not
say). The cold member grows after its first step; the small one never. Eight runs a member; nothing
is tuned, as in the paper.
"""

import dataclasses

from experiments.spec.comparison import Comparison
from experiments.spec.study import Study
from workloads.digits_fc import WORKLOAD

EXAMPLES = 1024
SMALL, LARGE = 16, 256
LARGE_EPOCHS = 20
WARM_EPOCHS = (1, 2, 4, 8, 16)


def _study(name: str, label: str, epochs: int, **changes: object) -> Study:
    one = Study(
        name=f"{name}-{label}",
        question="Does a large batch that starts from a small batch's find what those find?",
        workload=WORKLOAD,
        optimizer="adam",
        space={},
        fixed={"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
        batch_sizes=(SMALL,),
        step_budget=1,
        example_budget=(epochs + LARGE_EPOCHS) * EXAMPLES,
        trials=1,
        seeds=tuple(range(8)),
        evaluation_spacing=0.1,
        record_curvature=5,
    )
    return dataclasses.replace(one, **changes)  # type: ignore[arg-type]


def _grown(name: str, label: str, epochs: int, **changes: object) -> Study:
    """Large after so many epochs of small batches; after the first step where there are none."""
    return _study(
        name, label, epochs, batch_size_schedule="smith",
        batch_size_cuts=(max(1, epochs * EXAMPLES),), batch_size_factor=LARGE / SMALL,
        max_batch_size=LARGE, **changes,
    )  # fmt: skip


def _studies(name: str, warm: tuple[int, ...], **changes: object) -> dict[str, Study]:
    found = {"cold": _grown(name, "cold", 0, **changes)}
    for epochs in warm:
        found[f"warm={epochs}"] = _grown(name, f"warm={epochs}", epochs, **changes)
    found["small"] = _study(name, "small", 0, **changes)
    return found


STUDY = Comparison(
    name="warm_start_digits",
    question="Does a large batch that starts from a small batch's find what those find?",
    studies=_studies("warm_start_digits", WARM_EPOCHS),
    expected="The small batch's error and flatness after enough of its epochs, not from the start.",
    differ=("example_budget", "train_steps"),
)

SMOKE = dataclasses.replace(
    STUDY,
    name="warm_start_digits-smoke",
    studies=_studies("warm_start_digits-smoke", (1,), seeds=(0,)),
)
