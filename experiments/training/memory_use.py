"""Examples evaluated at a time, from what one of them takes in memory.

An evaluation keeps no activations for a gradient, so a batch as large as a training step's fits
wherever the step does. More are taken together where they fit into `EVALUATION_BYTES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import jax
from jax.core import AbstractValue, ShapedArray
from jax.extend.core import Jaxpr, jaxprs_in_params

from experiments.training.evaluation import EVALUATION_BATCH
from experiments.training.layout import Execution, Layout
from experiments.training.sharding import PyTree

EVALUATION_BYTES = 256 << 20
"""What all slots of one device may hold of the examples that are evaluated together, where a
training step's batch does not hold more."""
LIVE_ARRAYS = 3
"""Arrays of the largest one's size that a forward pass holds at a time: of a classifier or a
language model the scores, their logarithms and what they are compared with."""
MANY_EXAMPLES = 1_000_003
"""So many that what does not grow with them, such as the parameters, has no share to speak of."""


def bytes_of_example(evaluate: Callable[..., PyTree], *arguments: PyTree) -> int:
    """Bytes of one more example in a forward pass: `LIVE_ARRAYS` times its share of the largest
    array, by the shapes in a trace with `MANY_EXAMPLES`; nothing is compiled or computed.

    Args:
      evaluate: a function of ``arguments``, then of evaluation data.
      arguments: of which the last are evaluation data as shapes [1, ...]: the axis of examples is
        the second, its length does not matter.
    """
    *others, data = arguments
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((1, MANY_EXAMPLES, *x.shape[2:]), x.dtype), data
    )
    sizes = _sizes(jax.make_jaxpr(evaluate)(*others, shapes).jaxpr)
    return LIVE_ARRAYS * max(1, max(sizes) // MANY_EXAMPLES)


def _sizes(jaxpr: Jaxpr) -> Iterator[int]:
    """Bytes of every array that a program and the programs in it make."""
    for equation in jaxpr.eqns:
        for variable in equation.outvars:
            yield _bytes(variable.aval)
        for inner in jaxprs_in_params(equation.params):
            yield from _sizes(inner)


def _bytes(aval: AbstractValue) -> int:
    """Bytes of a value; 0 for one that is no array."""
    return math.prod(aval.shape) * aval.dtype.itemsize if isinstance(aval, ShapedArray) else 0


def evaluation_batch(execution: Execution, batch_size: int, example_bytes: int) -> int:
    """E, the examples of one evaluation batch, over all devices that share a step.

        E = min(1024, devices * max(rows, EVALUATION_BYTES / (slots * example_bytes)))

    Args:
      execution: ``devices`` share the examples of a step; a device has ``slots`` slots, and takes
        ``rows`` examples of a step at a time, its share of the batch or a micro-batch of it.
      batch_size: B.
      example_bytes: see `bytes_of_example`.
    """
    layout = execution.layout
    slots = max(1, execution.slots // layout.trials)
    fitting = EVALUATION_BYTES // (slots * example_bytes)
    least = least_evaluation_batch(layout, batch_size)
    return min(EVALUATION_BATCH, max(least, layout.data * fitting))


def least_evaluation_batch(layout: Layout, batch_size: int) -> int:
    """Examples of a step that all devices take at a time: they fit wherever the step does."""
    rows = -(-batch_size // layout.data)
    if layout.micro_batch is not None:
        rows = min(rows, layout.micro_batch)
    return layout.data * rows
