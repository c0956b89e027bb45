"""What is learned. One file is one workload; the dict below is the registry."""

from __future__ import annotations

from workloads.base import Goal, Losses, Model, Workload, resolve, unknown_name

__all__ = ["WORKLOADS", "Goal", "Losses", "Model", "Workload", "get"]

WORKLOADS: dict[str, str] = {
    "digits_fc": "workloads.digits_fc:WORKLOAD",
    "fashion_mnist_cnn": "workloads.fashion_mnist_cnn:WORKLOAD",
    "fashion_mnist_fc": "workloads.fashion_mnist_fc:WORKLOAD",
    "noisy_quadratic": "workloads.noisy_quadratic:WORKLOAD",
}


def get(name: str) -> Workload:
    """The workload called ``name``; an unknown name lists the known ones and the nearest."""
    if name not in WORKLOADS:
        raise unknown_name("workload", name, WORKLOADS)
    return resolve(WORKLOADS[name])
