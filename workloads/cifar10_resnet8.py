"""CIFAR-10, ResNet-8 without batch norm: Shallue et al. 2019, Figure 1."""

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="cifar10_resnet8",
    dataset="cifar10",
    model="workloads.models.resnets:resnet8",
    model_options={"classes": 10},
    losses="workloads.losses:CLASSIFICATION",
    preprocess="workloads.preprocessing:cifar",
    goal=Goal("classification_error", 0.30),
    search_spaces=momentum_spaces(1e-4, 1.0),
    note="goal: Shallue et al. 2019; layer details, augmentation and search spaces are ours",
)
