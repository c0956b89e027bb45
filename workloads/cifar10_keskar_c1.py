"""CIFAR-10, net C1 of Keskar et al. 2016: small against large batches, sharp against flat."""

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="cifar10_keskar_c1",
    dataset="cifar10",
    model="workloads.models.vgg:keskar",
    model_options={"net": "C1", "ghost_size": None},
    losses="workloads.losses:CLASSIFICATION",
    preprocess="workloads.preprocessing:scale_bytes",
    goal=Goal("classification_error", 0.22),
    hyperparameters={"dropout_rate": 0.5},
    search_spaces=momentum_spaces(1e-4, 1.0),
    note="architecture, dropout and batch norm over the whole batch: Keskar et al. 2016; the "
    "goal lies between their small-batch (0.200) and large-batch (0.227) test errors; search "
    "spaces are ours",
)
