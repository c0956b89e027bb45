"""Made-up 32x32x3 images, ResNet-8: for tests, and for throughput without any data."""

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="synthetic_images",
    dataset="synthetic_images",
    model="workloads.models.resnets:resnet8",
    model_options={"classes": 10},
    losses="workloads.losses:CLASSIFICATION",
    preprocess="workloads.preprocessing:scale_bytes",
    goal=Goal("classification_error", 0.10),
    search_spaces=momentum_spaces(1e-4, 1.0),
    note="data, goal and search spaces are ours",
)
