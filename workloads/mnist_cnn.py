"""MNIST, Simple CNN (base): Shallue et al. 2019, Figure 1; and its subsets of the data."""

import dataclasses

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="mnist_cnn",
    dataset="mnist",
    model="workloads.models.simple_cnn:simple_cnn",
    model_options={"width": "base", "classes": 10},
    losses="workloads.losses:CLASSIFICATION",
    preprocess="workloads.preprocessing:scale_bytes",
    goal=Goal("classification_error", 0.01),
    search_spaces=momentum_spaces(1e-4, 1.0),
    note="goal and split sizes: Shallue et al. 2019; layer sizes as commonly reproduced; "
    "search spaces are ours",
)


def _subset(examples: int) -> Workload:
    """The same question on the first so many training images."""
    return dataclasses.replace(
        WORKLOAD,
        name=f"mnist_cnn_{examples}",
        dataset_options={"train_examples": examples},
        goal=Goal("classification_error", 0.02),
        note="subset sizes: Shallue et al. 2019; goal and search spaces are ours",
    )


SUBSET_6875 = _subset(6_875)
SUBSET_13750 = _subset(13_750)
SUBSET_27500 = _subset(27_500)
