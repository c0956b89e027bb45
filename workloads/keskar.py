"""The nets and data of Keskar et al. (2017): small against large batches, sharp against flat.

F1 on MNIST, F2 on TIMIT's frames, C1 and C2 on CIFAR-10, C3 and C4 on CIFAR-100. Architectures,
dropout after dense layers and batch norm over the whole batch are theirs; Adam at its default rate
with batches of 256 and of a tenth of the training set. Goals lie between their small-batch and
large-batch test errors (Table 2); the search spaces for momentum rules are ours.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces


class KeskarNet(NamedTuple):
    """A row: its data, its large batch and its test errors in the paper's Table 2."""

    dataset: str
    large_batch: int
    small_error: float
    large_error: float


NETS = {
    "F1": KeskarNet("mnist", 6_000, 0.0197, 0.0219),
    "F2": KeskarNet("timit", 72_133, 0.3598, 0.4055),
    "C1": KeskarNet("cifar10", 5_000, 0.1996, 0.2274),
    "C2": KeskarNet("cifar10", 5_000, 0.1076, 0.1274),
    "C3": KeskarNet("cifar100", 5_000, 0.5042, 0.5355),
    "C4": KeskarNet("cifar100", 5_000, 0.3692, 0.4219),
}
"""Theirs; a large batch is a tenth of 60,000, 721,329 and 50,000."""
SMALL_BATCH = 256


def _workload(name: str, goal: float) -> Workload:
    net, convolutional = NETS[name], name.startswith("C")
    options: dict[str, Any] = {"net": name, "ghost_size": None}
    return Workload(
        name=f"{net.dataset}_keskar_{name.lower()}",
        dataset=net.dataset,
        model="workloads.models.vgg:keskar",
        model_options=options,
        losses="workloads.losses:CLASSIFICATION",
        preprocess=None if name == "F2" else "workloads.preprocessing:scale_bytes",
        goal=Goal("classification_error", goal),
        hyperparameters={"dropout_rate": 0.5} if convolutional else {},
        search_spaces=momentum_spaces(1e-4, 1.0),
        note="architecture, dropout and batch norm over the whole batch: Keskar et al. 2016; the "
        f"goal lies between their small-batch ({net.small_error:.3f}) and large-batch "
        f"({net.large_error:.3f}) test errors; search spaces are ours",
    )


F1 = _workload("F1", 0.021)
F2 = _workload("F2", 0.38)
C1 = _workload("C1", 0.22)
C2 = _workload("C2", 0.12)
C3 = _workload("C3", 0.52)
C4 = _workload("C4", 0.40)
