"""MNIST, fully connected 1024 x 3: one of the FC family of Shallue et al. 2019 (plain SGD)."""

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="mnist_fc",
    dataset="mnist",
    model="workloads.models.fully_connected:fully_connected",
    model_options={"hidden_sizes": [1024, 1024, 1024], "classes": 10},
    losses="workloads.losses:CLASSIFICATION",
    preprocess="workloads.preprocessing:scale_bytes",
    goal=Goal("classification_error", 0.03),
    search_spaces=momentum_spaces(1e-4, 1.0),
    note="hidden sizes: Shallue et al. 2019; goal and search spaces are ours",
)
