"""Goals, N and split sizes that Shallue et al. (2019) state beside the archive.

The goals are those of the nine workloads of figure 1, on the validation set, as the notebook
released with the archive has them. For the other workloads a goal is the reader's to choose.
"""

from __future__ import annotations

import re

from workloads.base import Goal

_ERROR = "classification_error"
_ENTROPY = "cross_entropy"
GOALS = {
    "mnist/simple_cnn_base/nesterov_momentum": Goal(_ERROR, 0.01),
    "fashion_mnist/simple_cnn_base/nesterov_momentum": Goal(_ERROR, 0.10),
    "cifar_10/resnet_8/nesterov_momentum": Goal(_ERROR, 0.30),
    "imagenet/resnet_50/nesterov_momentum": Goal(_ERROR, 0.25),
    "open_images_v4/resnet_50/nesterov_momentum": Goal("average_precision", 0.31, "max"),
    "lm1b/transformer_base/nesterov_momentum": Goal(_ENTROPY, 3.9),
    "common_crawl/transformer_base/nesterov_momentum": Goal(_ENTROPY, 3.9),
    "imagenet/vgg_11/nesterov_momentum": Goal(_ERROR, 0.35),
    "lm1b/lstm/nesterov_momentum": Goal(_ENTROPY, 3.9),
}
"""dataset/model/optimizer -> goal."""
TRIALS = 100
"""COMPLETE trials that are counted at a batch size."""
FEWER_TRIALS = {
    "common_crawl/transformer_base/nesterov_momentum": 50,
    "lm1b/lstm/nesterov_momentum": 50,
}
LARGER_IS_BETTER = ("average_precision", "accuracy")
SHARES = ("classification_error", "average_precision", "accuracy")
"""Metrics that lie in [0, 1]; anything beyond is of another unit, such as percent."""
_MNIST = 55_000
_SUBSET = re.compile(r"mnist_(\d+)")


def train_size(path: str) -> int | None:
    """Training examples of a workload's dataset; None where the archive does not say."""
    dataset = path.split("/")[-3] if path.count("/") >= 2 else ""
    if subset := _SUBSET.fullmatch(dataset):
        return int(subset[1])
    return _MNIST if dataset in ("mnist", "fashion_mnist") else None
