"""The members of the residual family by name; sizes published unless marked ours."""

from __future__ import annotations

from typing import Any

from workloads.models.linen import LinenModel
from workloads.models.residual import Layers, ResNet


def resnet8(classes: int = 10, width: int = 16, **layers: Any) -> LinenModel:
    """ResNet-8 without batch norm (Shallue et al. 2019, CIFAR-10): n = 1, seven 3x3
    convolutions with filters 16, 32, 64, pre-activation blocks. Details are ours.

    Args:
      classes: number of logits.
      width: filters of the first stage.
      **layers: other options of `Layers`, for every function of this module.
    """
    options = Layers(**{"normalization": "none", **layers})
    return _cifar(options, 1, width, classes)


def resnet_cifar(
    depth: int = 20, version: int = 2, classes: int = 10, width: int = 16, **layers: Any
) -> LinenModel:
    """The CIFAR ResNets of He et al., 6n + 2 layers; shortcuts by 1x1 convolutions (option B).

    Raises:
      ValueError: a depth that is not 6n + 2, or a version that is not 1 or 2.
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, 32, 44, 56, ...), got {depth!r}")
    if version not in (1, 2):
        raise ValueError(f"version must be 1 or 2, got {version!r}")
    options = Layers(preactivation=version == 2, **layers)
    return _cifar(options, (depth - 2) // 6, width, classes)


def _cifar(layers: Layers, n: int, width: int, classes: int) -> LinenModel:
    filters = (width, 2 * width, 4 * width)
    return LinenModel(ResNet(layers, filters, (n, n, n), (1, 2, 2), classes, stem_filters=width))


def wide_resnet(
    depth: int = 16,
    widening: int = 4,
    classes: int = 10,
    unit_stride_stage: int | None = None,
    width: int = 16,
    **layers: Any,
) -> LinenModel:
    """WRN-depth-widening (Zagoruyko and Komodakis 2016), 6n + 4 layers, dropout in the blocks.

    Args:
      depth: 16, 22, 28, 40, ...
      widening: filters are 16, 32, 64 times this.
      classes: number of logits.
      unit_stride_stage: the stage (2 or 3) whose first block strides 1x1 instead of 2x2: the
        playbook's example of a change that makes training unstable at the same rate.
      width: filters of the stem.
      **layers: other options of `Layers`.

    Raises:
      ValueError: a depth that is not 6n + 4, or a stage that is not 2 or 3.
    """
    if depth < 10 or (depth - 4) % 6:
        raise ValueError(f"depth must be 6n + 4 (10, 16, 22, 28, 40, ...), got {depth!r}")
    if unit_stride_stage not in (None, 2, 3):
        raise ValueError(f"unit_stride_stage must be None, 2 or 3, got {unit_stride_stage!r}")
    n = (depth - 4) // 6
    strides = tuple(1 if stage in (1, unit_stride_stage) else 2 for stage in (1, 2, 3))
    filters = tuple(widening * width * factor for factor in (1, 2, 4))
    return LinenModel(
        ResNet(Layers(**layers), filters, (n, n, n), strides, classes, stem_filters=width)
    )


def resnet50(classes: int = 1000, width: int = 64, **layers: Any) -> LinenModel:
    """ResNet-50 v1 (He et al. 2015; the stride sits in the 3x3 convolution), ghost batch norm
    of 32 examples. 25,557,032 parameters with 1,000 classes."""
    options = Layers(**{"preactivation": False, "bottleneck": True, "ghost_size": 32, **layers})
    filters = (width, 2 * width, 4 * width, 8 * width)
    return LinenModel(
        ResNet(
            options,
            filters,
            (3, 4, 6, 3),
            (1, 2, 2, 2),
            classes,
            stem_filters=width,
            large_stem=True,
        )
    )
