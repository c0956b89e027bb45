"""Do small batches find flatter and better minima than large ones in Keskar's own nets?

Command:   batchscale run small_and_large_keskar            (an accelerator; MNIST and CIFAR)
           batchscale run small_and_large_keskar --smoke    (narrow nets on made-up images)
           batchscale run small_and_large_timit             (F2, with frames of your own)
Time:      not measured; 50 trials of 100 epochs, the largest of 45,000 images through C2 and C4.
Expected:  Keskar et al. (2017, Tables 2 to 4): test errors of the large batch 0.2 points above the
           small one's for F1, 2 to 5 for C1 to C4, and full-space sharpness at epsilon 1e-3 of 205
           to 925 against 1 to 30.

Adam at its default rate, nothing tuned, batches of 256 and of a tenth of the training set, five
runs each; initial values and the cut of the validation set are ours.
`python -m benchmarks.small_and_large collect` measures the sharpness of what they found.
"""

import dataclasses
from typing import Any

from experiments.spec.comparison import Comparison
from experiments.spec.study import Study
from workloads.base import Workload
from workloads.keskar import C1, C2, C3, C4, F1, NETS, SMALL_BATCH

WORKLOADS = {"F1": F1, "C1": C1, "C2": C2, "C3": C3, "C4": C4}
TRAIN = {"F1": 55_000, "C1": 45_000, "C2": 45_000, "C3": 45_000, "C4": 45_000}
EPOCHS = 100
QUESTION = "Do small batches find flatter and better minima than large ones in Keskar's nets?"
ADAM = {"learning_rate": 1e-3, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}


def member(name: str, net: str, workload: Workload, examples: int, **changes: Any) -> Study:
    """One net at both batch sizes, 100 epochs of so many examples."""
    fields: dict[str, Any] = {
        "batch_sizes": (SMALL_BATCH, NETS[net].large_batch),
        "example_budget": EPOCHS * examples,
        "seeds": (0, 1, 2, 3, 4),
        "record_curvature": 10,
        **changes,
    }
    return Study(
        name=name, question=QUESTION, workload=workload, optimizer="adam", space={}, fixed=ADAM,
        step_budget=1, trials=1, **fields,
    )  # fmt: skip


def miniature(workload: Workload, shape: tuple[int, ...], width: int) -> Workload:
    """The same net, narrow, on made-up images."""
    classes = 100 if workload.dataset == "cifar100" else 10
    return dataclasses.replace(
        workload,
        name=f"{workload.name}_miniature",
        dataset="synthetic_images",
        dataset_options={"shape": list(shape), "classes": classes},
        model_options={**workload.model_options, "width": width},
    )


STUDY = Comparison(
    name="small_and_large_keskar",
    question=QUESTION,
    studies={
        net: member(f"small_and_large_keskar-{net}", net, workload, TRAIN[net])
        for net, workload in WORKLOADS.items()
    },
    expected="Larger errors and sharper minima at the large batch (Keskar et al. 2017).",
    differ=("workload", "batch_sizes", "goal", "example_budget", "train_steps"),
)

_MINIATURES = {"F1": ((28, 28, 1), 16), "C1": ((32, 32, 3), 2)}
SMOKE = dataclasses.replace(
    STUDY,
    name="small_and_large_keskar-smoke",
    studies={
        net: member(
            f"small_and_large_keskar-smoke-{net}", net, miniature(WORKLOADS[net], *shape), 2048,
            batch_sizes=(32, 128), seeds=(0,), example_budget=256, record_curvature=2,
            train_evaluation_examples=64,
        )
        for net, shape in _MINIATURES.items()
    },
)  # fmt: skip
