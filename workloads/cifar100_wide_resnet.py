"""CIFAR-100, WideResNet 16-4 with ghost batch norm."""

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="cifar100_wide_resnet",
    dataset="cifar100",
    model="workloads.models.resnets:wide_resnet",
    model_options={"depth": 16, "widening": 4, "classes": 100},
    losses="workloads.losses:CLASSIFICATION",
    preprocess="workloads.preprocessing:cifar",
    goal=Goal("classification_error", 0.30),
    hyperparameters={"dropout_rate": 0.0, "label_smoothing": 0.0},
    search_spaces=momentum_spaces(1e-4, 1.0),
    note="architecture: Zagoruyko and Komodakis 2016; goal and search spaces are ours",
)
