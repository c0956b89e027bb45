"""ImageNet, ResNet-50 with ghost batch norm: Shallue et al. 2019, Figure 1."""

from workloads.base import Goal, Workload
from workloads.search_spaces import choice, log, momentum_spaces, reverse_log

WORKLOAD = Workload(
    name="imagenet_resnet50",
    dataset="imagenet",
    dataset_options={"validation_examples": 10_000},
    model="workloads.models.resnets:resnet50",
    model_options={"classes": 1000},
    losses="workloads.losses:CLASSIFICATION",
    preprocess="workloads.preprocessing:imagenet",
    goal=Goal("classification_error", 0.25),
    hyperparameters={"label_smoothing": 0.0},
    search_spaces={
        **momentum_spaces(1e-4, 10.0),
        "nesterov": {
            "learning_rate": log(1e-4, 10.0),
            "momentum": reverse_log(0.9, 0.9999),
            "label_smoothing": choice(0.0, 0.01, 0.1),
        },
    },
    note="goal, and the space of Nesterov momentum at B = 256 without its schedule: Shallue et al. "
    "2019; splits, the 10,000 of 50,000 validation images measured, augmentation details and the "
    "other spaces are ours",
)
