"""CIFAR-10, WideResNet 16-4 with ghost batch norm, and its less stable twin.

The twin strides 1x1 instead of 2x2 in the last stage: the tuning playbook's example of a net
that needs warmup or clipping at rates where the original trains well.
"""

import dataclasses

from workloads.base import Goal, Workload
from workloads.search_spaces import momentum_spaces

WORKLOAD = Workload(
    name="cifar10_wide_resnet",
    dataset="cifar10",
    model="workloads.models.resnets:wide_resnet",
    model_options={"depth": 16, "widening": 4, "classes": 10},
    losses="workloads.losses:CLASSIFICATION",
    preprocess="workloads.preprocessing:cifar",
    goal=Goal("classification_error", 0.07),
    hyperparameters={"dropout_rate": 0.0, "label_smoothing": 0.0},
    search_spaces=momentum_spaces(1e-4, 1.0),
    note="architecture: Zagoruyko and Komodakis 2016; goal and search spaces are ours",
)

UNIT_STRIDE = dataclasses.replace(
    WORKLOAD,
    name="cifar10_wide_resnet_unit_stride",
    model_options={**WORKLOAD.model_options, "unit_stride_stage": 3},
)
