"""The Simple CNN (base) in PyTorch: one training step as one writes it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn


def torch_run(
    data: dict[str, Any], stream: np.ndarray, learning_rate: float, momentum: float
) -> Callable[[int], None]:
    """Makes steps on ``stream`` [steps, B], on the CPU, as many threads as PyTorch takes."""
    pixels = torch.from_numpy(np.array(data["inputs"])).permute(0, 3, 1, 2).contiguous()
    targets = torch.from_numpy(np.array(data["targets"])).long()
    net = nn.Sequential(
        nn.Conv2d(1, 32, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 1024), nn.ReLU(), nn.Linear(1024, 10),
    )  # fmt: skip
    rule = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=momentum)

    def run(count: int) -> None:
        for indices in torch.from_numpy(stream[:count].astype(np.int64)):
            loss = nn.functional.cross_entropy(net(pixels[indices] / 255), targets[indices])
            rule.zero_grad()
            loss.backward()
            rule.step()

    return run
