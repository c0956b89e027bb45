"""Networks made of searched architectures: stacks, cells in a skeleton, and a frame that is all.

A *plain* network holds the operations of one architecture. A *framed* one holds every operation at
every node, weighted by hyperparameters that are traced: one program serves every architecture of a
space, and with the weights of one it is that one, to rounding, parameters and all (modules have the
same names, so equal seeds draw equal numbers; what is not selected has no gradient).
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import linen as nn

from workloads.architectures import (
    OUTPUT,
    Frame,
    GraphLike,
    NodeLike,
    Skeleton,
    applies,
    node_name,
    reads,
)
from workloads.models.linen import Context, LinenModel
from workloads.models.operations import MODULES, Dense, NormalisedConvolution, halved
from workloads.registry import unknown_name


def operation(name: str) -> functools.partial[nn.Module]:
    """The module class of an operation.

    Raises:
      UnknownNameError: there is none.
    """
    if name not in MODULES:
        raise unknown_name("operation", name, MODULES)
    return functools.partial(MODULES[name])


class Stack(nn.Module):
    """A whole network as one graph: inputs [B, ...] -> what its output reads.

    A dense node that the output alone reads is the classifier: affine, without relu.

    Attributes:
      graph: `experiments.search.architecture.stacks` makes them.
      shape: of an example, to which inputs are reshaped.
    """

    graph: GraphLike
    shape: tuple[int, ...]

    @nn.compact
    def __call__(self, inputs: jax.Array, context: Context) -> jax.Array:
        x = inputs.reshape(inputs.shape[0], *self.shape)
        return Plain(self.graph, classifies=True, name="network")(x, context)


class Plain(nn.Module):
    """The operations of one graph.

    Attributes:
      graph: its nodes.
      classifies: whether a dense node that the output reads alone is affine.
      halves: whether it is a cell that makes half an image of one.
    """

    graph: GraphLike
    classifies: bool = False
    halves: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        values = [x]
        last = self.graph.nodes[-1].inputs
        for index, node in enumerate(self.graph.nodes[1:], 1):
            merged = _merged(node, [values[i] for i in node.inputs])
            if merged is None:  # a cell that is cut from its input is zero
                return jnp.zeros_like(halved(x) if self.halves else x)
            if node.operation == OUTPUT:
                return merged
            name = node_name(index, node.operation)
            if self.classifies and last == (index,) and node.operation == "dense":
                module: nn.Module = Dense(node.width, logits=True, name=name)
            else:
                module = operation(node.operation)(width=node.width, name=name)
            values.append(module(merged, context))
        raise ValueError(f"a graph ends with its output, got {self.graph}")


def _merged(node: NodeLike, values: list[jax.Array]) -> jax.Array | None:
    if not values:
        return None
    if node.merge == "concat":
        return jnp.concatenate(values, axis=-1)
    return functools.reduce(jnp.add, values)


class Framed(nn.Module):
    """All graphs of a frame: which one it is, the hyperparameters say (`workloads.architectures`).

    Attributes:
      frame: its size.
      cell: the name under which its weights are found.
      halves: as of `Plain`.
    """

    frame: Frame
    cell: str
    halves: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        def weight(name: str) -> jax.Array:
            return jnp.asarray(context.hyperparameters.get(name, 0.0), x.dtype)

        def read(target: int | str, sources: range) -> jax.Array:
            terms = [weight(reads(self.cell, i, target)) * values[i] for i in sources]
            return functools.reduce(jnp.add, terms)

        values = [x]
        for node in range(1, self.frame.nodes + 1):
            terms = []
            for sources, names in self.frame.at(node):
                merged = read(node, sources)
                for name in names:
                    module = operation(name)(width=None, name=node_name(node, name))
                    terms.append(weight(applies(self.cell, node, name)) * module(merged, context))
            values.append(functools.reduce(jnp.add, terms))
        if self.halves:
            values[0] = jnp.zeros_like(halved(x))  # the output does not read it
        return read(OUTPUT, range(self.frame.nodes + 1))


class Cells(nn.Module):
    """Cells in a `Skeleton`: inputs [B, ...] -> logits [B, classes].

    Attributes:
      skeleton: what surrounds them.
      cells: ("normal", its graph or frame), and ("reduction", ...) where there is one.
    """

    skeleton: Skeleton
    cells: tuple[tuple[str, GraphLike | Frame], ...]

    @nn.compact
    def __call__(self, inputs: jax.Array, context: Context) -> jax.Array:
        skeleton = self.skeleton
        x = inputs.reshape(inputs.shape[0], *skeleton.shape)
        x = operation(skeleton.stem)(width=skeleton.width, name="stem")(x, context)
        for stage in range(skeleton.stages):
            width = skeleton.width_at(stage)
            if stage:
                x = x if skeleton.strided else halved(x)
                x = NormalisedConvolution(1, width, name=f"widen{stage}")(x, context)
                if any(kind == "reduction" for kind, _ in self.cells):
                    x = self._cell("reduction", f"reduction{stage}", x, context)
            for place in range(skeleton.cells):
                x = self._cell("normal", f"cell{stage}_{place}", x, context)
        x = nn.relu(x)
        x = x.mean(axis=tuple(range(1, x.ndim - 1))) if x.ndim > 2 else x
        return nn.Dense(skeleton.classes, name="head")(x)

    def _cell(self, kind: str, name: str, x: jax.Array, context: Context) -> jax.Array:
        what = dict(self.cells)[kind]
        halves = kind == "reduction" and self.skeleton.strided
        if isinstance(what, Frame):
            y = Framed(what, kind, halves, name=name)(x, context)
        else:
            y = Plain(what, halves=halves, name=name)(x, context)
        if y.shape[-1] == x.shape[-1]:
            return y
        return _narrowed(y, x.shape[-1], f"{name}_narrow", context)


def _narrowed(y: jax.Array, width: int, name: str, context: Context) -> jax.Array:
    """Back to the width of the stage: a 1x1 convolution of images, else an affine map."""
    if y.ndim == 4:
        return NormalisedConvolution(1, width, name=name)(y, context)
    return nn.Dense(width, name=name)(y)


def _frame(nodes: int, operations: list[str], halving: list[str] | tuple[()] = ()) -> Frame:
    return Frame(nodes, tuple(operations), tuple(halving))


def framed(
    *,
    skeleton: dict[str, object],
    cells: dict[str, dict[str, object]],
    dtype: str = "float32",
    param_dtype: str = "float32",
) -> LinenModel:
    """A framed network as a `Model`, of plain data: a workload's ``model_options``.

    Raises:
      ValueError: another number format than float32.
    """
    if (dtype, param_dtype) != ("float32", "float32"):
        raise ValueError(f"a framed network computes in float32, got {dtype} and {param_dtype}")
    frames = tuple(
        (kind, _frame(**frame))  # type: ignore[arg-type]
        for kind, frame in cells.items()
    )
    given = {**skeleton, "shape": tuple(skeleton["shape"])}  # type: ignore[arg-type]
    return LinenModel(Cells(Skeleton(**given), frames))  # type: ignore[arg-type]
