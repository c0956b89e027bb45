"""Workloads: what is learned. One file is one workload; the dict below is the registry."""

from __future__ import annotations

from workloads.base import Goal, Losses, Model, Workload
from workloads.registry import resolve, unknown_name

__all__ = ["WORKLOADS", "Goal", "Losses", "Model", "Workload", "get"]

WORKLOADS: dict[str, str] = {
    "cifar100_keskar_c3": "workloads.keskar:C3",
    "cifar100_keskar_c4": "workloads.keskar:C4",
    "cifar100_wide_resnet": "workloads.cifar100_wide_resnet:WORKLOAD",
    "cifar10_keskar_c1": "workloads.keskar:C1",
    "cifar10_keskar_c2": "workloads.keskar:C2",
    "cifar10_resnet8": "workloads.cifar10_resnet8:WORKLOAD",
    "cifar10_wide_resnet": "workloads.cifar10_wide_resnet:WORKLOAD",
    "cifar10_wide_resnet_unit_stride": "workloads.cifar10_wide_resnet:UNIT_STRIDE",
    "digits_fc": "workloads.digits_fc:WORKLOAD",
    "digits_wide_resnet": "workloads.digits_wide_resnet:WORKLOAD",
    "digits_wide_resnet_unit_stride": "workloads.digits_wide_resnet:UNIT_STRIDE",
    "fashion_mnist_cnn": "workloads.fashion_mnist_cnn:WORKLOAD",
    "fashion_mnist_fc": "workloads.fashion_mnist_fc:WORKLOAD",
    "imagenet_resnet50": "workloads.imagenet_resnet50:WORKLOAD",
    "imagenet_vgg11": "workloads.imagenet_vgg11:WORKLOAD",
    "lm1b_lstm": "workloads.lm1b_lstm:WORKLOAD",
    "lm1b_transformer": "workloads.lm1b_transformer:WORKLOAD",
    "lm1b_transformer_narrow_and_shallow": "workloads.lm1b_transformer:NARROW_AND_SHALLOW",
    "lm1b_transformer_shallow": "workloads.lm1b_transformer:SHALLOW",
    "lm1b_transformer_wide": "workloads.lm1b_transformer:WIDE",
    "mnist_cnn": "workloads.mnist_cnn:WORKLOAD",
    "mnist_cnn_13750": "workloads.mnist_cnn:SUBSET_13750",
    "mnist_cnn_27500": "workloads.mnist_cnn:SUBSET_27500",
    "mnist_cnn_6875": "workloads.mnist_cnn:SUBSET_6875",
    "mnist_fc": "workloads.mnist_fc:WORKLOAD",
    "mnist_keskar_f1": "workloads.keskar:F1",
    "noisy_quadratic": "workloads.noisy_quadratic:WORKLOAD",
    "synthetic_images": "workloads.synthetic_images:WORKLOAD",
    "synthetic_tokens": "workloads.synthetic_tokens:WORKLOAD",
    "text_lstm": "workloads.text_lstm:WORKLOAD",
    "text_transformer": "workloads.text_transformer:WORKLOAD",
    "timit_keskar_f2": "workloads.keskar:F2",
}


def get(name: str) -> Workload:
    """The workload called ``name``; an unknown name lists the known ones and the nearest."""
    if name not in WORKLOADS:
        raise unknown_name("workload", name, WORKLOADS)
    return resolve(WORKLOADS[name])
