"""The benchmark's nets in PyTorch: one training step as one writes it there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import workloads


def fully_connected(inputs: int, hidden: Sequence[int]) -> nn.Module:
    """Dense layers with ReLU, ten classes."""
    sizes, layers = [inputs, *hidden], [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 10))


def simple_cnn() -> nn.Module:
    """The Simple CNN, base."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 7 * 7, 1024), nn.ReLU(), nn.Linear(1024, 10),
    )  # fmt: skip


class TorchBlock(nn.Module):
    """A pre-activation block without normalisation."""

    def __init__(self, before: int, after: int, stride: int):
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, padding=1)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = None if before == after else nn.Conv2d(before, after, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        opened = F.relu(x)
        branch = self.second(F.relu(self.first(opened)))
        return (x if self.shortcut is None else self.shortcut(opened)) + branch


class ResNet8(nn.Module):
    """ResNet-8 without batch norm; its images are shifted and mirrored as in the workload."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.blocks = nn.Sequential(
            TorchBlock(16, 16, 1), TorchBlock(16, 32, 2), TorchBlock(32, 64, 2)
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: Tensor) -> Tensor:
        batch = torch.arange(len(x)).reshape(-1, 1, 1)
        down, across = torch.randint(0, 9, (2, len(x), 1, 1))
        pixels = torch.arange(32).expand(len(x), 32)
        mirrored = torch.rand(len(x), 1) < 0.5
        columns = torch.where(mirrored, 31 - pixels, pixels)[:, None, :] + across
        x = F.pad(x, (4, 4, 4, 4)).permute(0, 2, 3, 1)[batch, pixels[:, :, None] + down, columns]
        x = self.blocks(self.stem(x.permute(0, 3, 1, 2)))
        return self.head(F.relu(x).mean((2, 3)))


class Transformer(nn.Module):
    """A pre-norm language model; attention without biases, fixed positions."""

    def __init__(self, vocabulary: int, layers: int, width: int, feed_forward: int, heads: int):
        super().__init__()
        self.embedding, self.heads = nn.Embedding(vocabulary, width), heads
        self.layers = nn.ModuleList(
            nn.ModuleDict({
                "norm": nn.LayerNorm(width), "parts": nn.Linear(width, 3 * width, bias=False),
                "mix": nn.Linear(width, width, bias=False),
                "feed": nn.Sequential(
                    nn.LayerNorm(width), nn.Linear(width, feed_forward), nn.ReLU(),
                    nn.Linear(feed_forward, width),
                ),
            })
            for _ in range(layers)
        )  # fmt: skip
        self.output = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, vocabulary))
        angles = torch.arange(64)[:, None] / 10_000 ** (torch.arange(width // 2) * 2 / width)
        self.register_buffer("positions", torch.cat([angles.sin(), angles.cos()], dim=1))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.positions
        batch, length, width = x.shape
        for layer in self.layers:
            parts = layer["parts"](layer["norm"](x)).reshape(batch, length, 3, self.heads, -1)
            query, key, value = parts.permute(2, 0, 3, 1, 4)
            mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + layer["mix"](mixed.transpose(1, 2).reshape(batch, length, width))
            x = x + layer["feed"](x)
        return self.output(x)


class TorchLSTM(nn.Module):
    """The LSTM with projection; PyTorch's has a second bias per gate."""

    def __init__(self, vocabulary: int, layers: int, embedding: int, units: int, projection: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, units, layers, batch_first=True, proj_size=projection)
        self.output = nn.Linear(projection, vocabulary)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output(self.lstm(self.embedding(tokens))[0])


def torch_net(name: str, shape: Sequence[int]) -> nn.Module:
    """The net of the workload called ``name``; ``shape`` of one input."""
    options = {k: v for k, v in workloads.get(name).model_options.items() if k != "placement"}
    if name.endswith("_fc"):
        return fully_connected(int(np.prod(shape)), options["hidden_sizes"])
    if name.endswith("_cnn"):
        return simple_cnn()
    if name.endswith("_resnet8"):
        return ResNet8()
    return (TorchLSTM if name.endswith("_lstm") else Transformer)(**options)


def torch_run(
    name: str, data: dict[str, Any], stream: np.ndarray, learning_rate: float, momentum: float
) -> Callable[[int], None]:
    """Makes steps on ``stream`` [steps, B], on the CPU, as many threads as PyTorch takes."""
    inputs = torch.from_numpy(np.array(data["inputs"]))
    targets = torch.from_numpy(np.array(data["targets"])).long()
    tokens, scale = targets.ndim > 1, 255 if inputs.dtype == torch.uint8 else 1
    inputs = inputs.long() if tokens else inputs
    if inputs.ndim == 4:
        inputs = inputs.permute(0, 3, 1, 2).contiguous()
    net = torch_net(name, inputs.shape[1:])
    rule = torch.optim.SGD(net.parameters(), lr=learning_rate, momentum=momentum)

    def run(count: int) -> None:
        for indices in torch.from_numpy(stream[:count].astype(np.int64)):
            batch = inputs[indices] if tokens else inputs[indices] / scale
            outputs = net(batch)
            loss = F.cross_entropy(outputs.reshape(-1, outputs.shape[-1]), targets[indices].ravel())
            rule.zero_grad()
            loss.backward()
            rule.step()

    return run
