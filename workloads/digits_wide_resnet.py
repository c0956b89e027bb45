"""scikit-learn's digits as 8x8 images, a narrow WideResNet 16, and its less stable twin.

The twin strides 1x1 instead of 2x2 in the last stage, as that of cifar10_wide_resnet does.
"""

import dataclasses

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="digits_wide_resnet",
    dataset="digits",
    model="workloads.models.resnets:wide_resnet",
    model_options={"depth": 16, "widening": 1, "width": 8, "classes": 10},
    losses="workloads.losses:CLASSIFICATION",
    preprocess="workloads.preprocessing:digit_images",
    goal=Goal("classification_error", 0.04),
    search_spaces=momentum_spaces(1e-3, 3.0),
    note="sizes, goal and search spaces are ours",
)

UNIT_STRIDE = dataclasses.replace(
    WORKLOAD,
    name="digits_wide_resnet_unit_stride",
    model_options={**WORKLOAD.model_options, "unit_stride_stage": 3},
)
