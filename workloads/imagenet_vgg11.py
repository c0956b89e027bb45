"""ImageNet, VGG-11 with dropout: Shallue et al. 2019, Figure 1."""

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="imagenet_vgg11",
    dataset="imagenet",
    dataset_options={"validation_examples": 10_000},
    model="workloads.models.vgg:vgg11",
    model_options={"classes": 1000},
    losses="workloads.losses:CLASSIFICATION",
    preprocess="workloads.preprocessing:imagenet",
    goal=Goal("classification_error", 0.35),
    hyperparameters={"dropout_rate": 0.5, "label_smoothing": 0.0},
    search_spaces=momentum_spaces(1e-4, 1.0),
    note="goal: Shallue et al. 2019; splits, the 10,000 of 50,000 validation images measured, "
    "augmentation details and search spaces are ours",
)
