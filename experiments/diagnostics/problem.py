"""The loss of a trained model on stated examples, as a function of its parameters alone.

Everything that diagnostics measures is a function of `Problem`: the model in evaluation mode
(dropout off, batch norm with its running statistics), examples in chunks of one size, the last
one padded with examples of weight zero. Sums over chunks divided by the count of all give the
mean over the examples, whatever the chunk size.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

Params = Any
"""The parameters of a model, a pytree of arrays."""
Outputs = Any
"""What a model returns for a chunk, a pytree of arrays."""
Chunk = Mapping[str, jax.Array]
"""Examples ``inputs, targets, ...`` [rows, ...] and their ``weights`` [rows]."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["chunks"],
    meta_fields=["outputs", "sums", "axis_name"],
)
@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A mean loss over fixed examples, a pytree whose leaves are the examples.

    Give it to a jitted function as an argument: examples that a function closes over are
    constants of the compiled program.

    Attributes:
      outputs: (parameters, chunk) -> the model's outputs in evaluation mode.
      sums: (outputs, chunk) -> (sum of w_i l_i, sum of w_i c_i), scalars; the mean loss is the
        quotient of their sums over chunks.
      chunks: the examples, each array [chunks, rows, ...].
      axis_name: of the devices whose examples count together, each with its own ``chunks``.
    """

    outputs: Callable[[Params, Chunk], Outputs]
    sums: Callable[[Outputs, Chunk], tuple[jax.Array, jax.Array]]
    chunks: Chunk
    axis_name: str | None = None

    def count(self, params: Params) -> jax.Array:
        """Sum of w_i c_i over all examples, by which sums become means; float32 or wider []."""

        def of(chunk: Chunk) -> jax.Array:
            return self.sums(self.outputs(params, chunk), chunk)[1]

        return self.summed(of)

    def loss(self, params: Params) -> jax.Array:
        """The mean loss []."""
        total, count = self.summed(lambda c: self.sums(self.outputs(params, c), c))
        return total / count

    def value_and_gradient(self, params: Params) -> tuple[jax.Array, Params]:
        """(the mean loss [], its gradient, a tree like ``params``), chunk by chunk."""

        def of(chunk: Chunk) -> tuple[Params, tuple[jax.Array, jax.Array]]:
            def total(p: Params) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
                both = self.sums(self.outputs(p, chunk), chunk)
                return both[0], both

            return jax.grad(total, has_aux=True)(params)

        sums, (total, count) = self.summed(of)
        return total / count, jax.tree.map(lambda s: s / count.astype(s.dtype), sums)

    def gradient(self, params: Params) -> Params:
        """The gradient of the mean loss, a tree like ``params``."""
        return self.value_and_gradient(params)[1]

    def summed(self, of: Callable[[Chunk], Any]) -> Any:
        """The sum of a tree of arrays over chunks, and over the devices of ``axis_name``; one
        chunk's values are kept at a time."""
        shapes = jax.eval_shape(of, jax.tree.map(lambda x: x[0], self.chunks))
        start = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

        def add(total: Any, chunk: Chunk) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, of(chunk)), None

        total = jax.lax.scan(add, start, self.chunks)[0]
        return total if self.axis_name is None else jax.lax.psum(total, self.axis_name)


def in_chunks(examples: Mapping[str, np.ndarray], rows: int) -> dict[str, np.ndarray]:
    """Examples [n, ...] as chunks [chunks, rows, ...]; padding has ``weights`` of zero.

    Raises:
      ValueError: no example, or fewer than one row.
    """
    n = len(next(iter(examples.values())))
    if n == 0:
        raise ValueError("examples must hold at least one example, got none")
    if rows < 1:
        raise ValueError(f"rows of a chunk must be at least 1, got {rows!r}")
    chunks = math.ceil(n / rows)
    rows = math.ceil(n / chunks)
    weighted = {"weights": np.ones(n, np.float32), **examples}

    def cut(array: np.ndarray) -> np.ndarray:
        padding = [(0, chunks * rows - n)] + [(0, 0)] * (array.ndim - 1)
        return np.pad(array, padding).reshape(chunks, rows, *array.shape[1:])

    return {role: cut(np.asarray(array)) for role, array in weighted.items()}


def flat(params: Params) -> tuple[jax.Array, Callable[[jax.Array], Params]]:
    """(parameters as one vector [n], the function that puts such a vector back into the tree)."""
    return ravel_pytree(params)


def require_wide(params: Params) -> None:
    """Refuse numbers too coarse for differences of a loss.

    Raises:
      ValueError: a parameter that is neither float32 nor float64.
    """
    for leaf in jax.tree.leaves(params):
        if leaf.dtype not in (np.float32, np.float64):
            raise ValueError(
                f"parameters must be float32 or float64 to be diagnosed, got {leaf.dtype}"
            )


def finite_loss(problem: Problem, params: Params) -> float:
    """The mean loss at ``params``.

    Raises:
      ValueError: it is not finite, or a parameter is neither float32 nor float64.
    """
    require_wide(params)
    loss = float(jax.jit(Problem.loss)(problem, params))
    if not math.isfinite(loss):
        raise ValueError(f"the loss at the parameters must be finite, got {loss}")
    return loss
