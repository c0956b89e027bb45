"""Operations that a node of an architecture can apply: the table, and what each one costs.

An operation is one function

    cost(shape, width) -> OperationCost(shape, parameters, flops)

of its input's shape without the batch, (features,), (tokens, features) or (height, width,
channels), and of the width asked for, None where the operation keeps the width. It raises
ValueError where it cannot be applied. FLOPs are those of one example's forward pass, two a
multiply-add; element-wise functions and additions of branches are not counted. The table
`OPERATIONS` is a plain dict, and a user's file may add to it; the module of an operation is a row
of `workloads.models.operations.MODULES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

Shape = tuple[int, ...]


class OperationCost(NamedTuple):
    """Cost and shape of what an operation makes of its input.

    Attributes:
      shape: of the output, without the batch.
      parameters: trained numbers.
      flops: floating-point operations an example, forward.
    """

    shape: Shape
    parameters: int
    flops: int


class Operation(NamedTuple):
    """A row of the table.

    Attributes:
      meaning: one line.
      cost: (input shape, width or None) -> OperationCost; raises ValueError.
      wide: whether it makes its output as wide as it is told; others keep the width.
      stride: 2 where it halves the height and the width of images.
    """

    meaning: str
    cost: Callable[[Shape, int | None], OperationCost]
    wide: bool = False
    stride: int = 1


def image(shape: Shape, name: str) -> Shape:
    """The shape, if it is an image's.

    Raises:
      ValueError: it is not (height, width, channels).
    """
    if len(shape) != 3:
        raise ValueError(f"{name} needs (height, width, channels), got {shape}")
    return shape


def _kept(shape: Shape, width: int | None) -> OperationCost:
    del width
    return OperationCost(shape, 0, 0)


def _weighted(shape: Shape, width: int | None) -> OperationCost:
    del width
    return OperationCost(shape, 1, 0)


def _dense(shape: Shape, width: int | None) -> OperationCost:
    inputs = math.prod(shape)  # an image is flattened
    outputs = inputs if width is None else width
    return OperationCost((outputs,), inputs * outputs + outputs, 2 * inputs * outputs)


def convolution(
    kernel: int, *, normalised: bool, stride: int = 1
) -> Callable[[Shape, int | None], OperationCost]:
    """Cost of a square convolution that keeps height and width, or halves them (``stride`` 2).

    It has a bias per output channel or, normalised, a scale and an offset.
    """

    def cost(shape: Shape, width: int | None) -> OperationCost:
        height, across, channels = image(shape, f"a {kernel}x{kernel} convolution")
        if stride == 2:
            height, across = halved(shape)[:2]
        outputs = channels if width is None else width
        weights = kernel * kernel * channels * outputs
        parameters = weights + (2 if normalised else 1) * outputs
        return OperationCost((height, across, outputs), parameters, 2 * height * across * weights)

    return cost


def _flat(shape: Shape, width: int | None) -> OperationCost:
    del width
    return OperationCost((math.prod(shape),), 0, 0)


def _average(shape: Shape, width: int | None) -> OperationCost:
    del width
    return OperationCost(image(shape, "a pool"), 0, 0)


def halved(shape: Shape) -> Shape:
    """The shape of an image at half the height and width, rounded down.

    Raises:
      ValueError: it is no image of at least 2 x 2 points.
    """
    height, across, channels = image(shape, "stride two")
    if min(height, across) < 2:
        raise ValueError(f"stride two needs at least 2 x 2 points, got {height} x {across}")
    return height // 2, across // 2, channels


def _halved(shape: Shape, width: int | None) -> OperationCost:
    del width
    return OperationCost(halved(shape), 0, 0)


EXPANSION = 4
"""Hidden features of a Transformer's feed-forward block over those of its input."""


def tokens(shape: Shape, name: str) -> Shape:
    """The shape, if it is one of tokens.

    Raises:
      ValueError: it is not (tokens, features).
    """
    if len(shape) != 2:
        raise ValueError(f"{name} needs (tokens, features), got {shape}")
    return shape


def _rows(shape: Shape, width: int | None) -> OperationCost:
    height, across, channels = image(shape, "rows")
    inputs = across * channels
    outputs = inputs if width is None else width
    return OperationCost((height, outputs), (inputs + 1) * outputs, 2 * height * inputs * outputs)


def attention(heads: int) -> Callable[[Shape, int | None], OperationCost]:
    """Cost of x + attention(layer norm(x)): matrices of 3 D x D and D x D, and two of T x T."""

    def cost(shape: Shape, width: int | None) -> OperationCost:
        del width
        length, features = tokens(shape, "attention")
        if features % heads:
            raise ValueError(f"attention of {heads} heads needs a multiple of them, got {features}")
        flops = 2 * length * 4 * features**2 + 4 * length**2 * features
        return OperationCost(shape, 4 * features**2 + 2 * features, flops)

    return cost


def _feed_forward(shape: Shape, width: int | None) -> OperationCost:
    del width
    length, features = tokens(shape, "feed_forward")
    weights = 2 * EXPANSION * features**2
    return OperationCost(shape, weights + (EXPANSION + 3) * features, 2 * length * weights)


STRIDED = "_s2"
"""Behind the name of an operation: its form of stride two."""

OPERATIONS: dict[str, Operation] = {
    "skip": Operation("identity", _kept),
    "weighted_skip": Operation("the input times a trained number", _weighted),
    "relu": Operation("max(x, 0)", _kept),
    "flatten": Operation("all values as features", _flat),
    "dense": Operation("affine, then relu; an image is flattened", _dense, wide=True),
    "affine": Operation("affine alone; an image is flattened", _dense, wide=True),
    "conv1x1": Operation("1x1 convolution, relu", convolution(1, normalised=False), wide=True),
    "conv3x3": Operation("3x3 convolution, relu", convolution(3, normalised=False), wide=True),
    "conv5x5": Operation("5x5 convolution, relu", convolution(5, normalised=False), wide=True),
    "bn_conv1x1": Operation(
        "relu, 1x1 convolution, batch norm", convolution(1, normalised=True), wide=True
    ),
    "bn_conv3x3": Operation(
        "relu, 3x3 convolution, batch norm", convolution(3, normalised=True), wide=True
    ),
    "avg_pool3x3": Operation("mean over 3x3 points, stride 1", _average),
    "max_pool2x2": Operation("maximum over 2x2 points, stride 2", _halved, stride=2),
    "rows": Operation("an image's rows as tokens: affine, plus places", _rows, wide=True),
    "attention1": Operation("x + attention of 1 head, layer norm before it", attention(1)),
    "attention2": Operation("x + attention of 2 heads, layer norm before it", attention(2)),
    "attention4": Operation("x + attention of 4 heads, layer norm before it", attention(4)),
    "feed_forward": Operation(
        "x + two affine maps, relu between, layer norm before", _feed_forward
    ),
    "skip_s2": Operation("mean over 2x2 points, stride 2", _halved, stride=2),
    "avg_pool3x3_s2": Operation("mean over 3x3 points, stride 2", _halved, stride=2),
    **{
        f"{'bn_' if normalised else ''}conv{k}x{k}{STRIDED}": Operation(
            f"{k}x{k} convolution of stride 2, "
            + ("relu before, batch norm behind" if normalised else "relu"),
            convolution(k, normalised=normalised, stride=2),
            wide=True,
            stride=2,
        )
        for normalised, sizes in ((False, (1, 3, 5)), (True, (1, 3)))
        for k in sizes
    },
}
