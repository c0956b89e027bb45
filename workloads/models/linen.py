"""Flax linen modules behind the two-function `Model` protocol; dropout with a traced rate.

A module used here is called as ``module(inputs, context)``: what a layer may need besides its
inputs (train or not, keys, positions, weights, hyperparameters) travels in one `Context`.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from workloads.base import Batch


@dataclasses.dataclass(frozen=True)
class Context:
    """Values that a layer may read besides its inputs.

    Attributes:
      train: True while training (static).
      key: the step's key for masks; None at initialisation.
      position: [B] int32, each example's place in the global batch.
      weights: [B] float32, zero for padding.
      hyperparameters: name -> traced scalar, e.g. ``dropout_rate``.
    """

    train: bool
    key: Any
    position: Any
    weights: Any
    hyperparameters: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class LinenModel:
    """A linen module as a `Model`: ``params`` and ``state`` are plain dicts.

    ``state`` holds the ``batch_stats`` collection, empty for a module without one.
    """

    module: nn.Module

    def init(self, key: jax.Array, batch: Batch) -> tuple[Any, Any]:
        """(params, state), traced on the first example alone: no shape depends on B."""
        first = {role: array[:1] for role, array in batch.items()}
        context = Context(False, None, first["position"], first["weights"], {})
        variables = self.module.init({"params": key}, first["inputs"], context)
        return variables["params"], variables.get("batch_stats", {})

    def ghost_batch_size(self, batch: Batch) -> int | None:
        """The one ghost batch size of the module's batch norms; 1 where it has none."""
        sizes: set[int | None] = set()

        def noted(next_call: Any, args: Any, kwargs: Any, context: Any) -> Any:
            if getattr(context.module, "mixes_examples", False):
                sizes.add(context.module.ghost_size)
            return next_call(*args, **kwargs)

        with nn.intercept_methods(noted):
            jax.eval_shape(lambda: self.init(jax.random.key(0), batch))
        if len(sizes) > 1:
            raise ValueError(f"one net has batch norms of several ghost sizes: {sizes}")
        return sizes.pop() if sizes else 1

    def apply(
        self,
        params: Any,
        state: Any,
        batch: Batch,
        *,
        key: Any,
        train: bool,
        hyperparameters: Mapping[str, Any],
    ) -> tuple[Any, Any]:
        """(outputs [B, ...], new state); the state changes only where ``train`` is True."""
        context = Context(train, key, batch["position"], batch["weights"], hyperparameters)
        variables = {"params": params, "batch_stats": state} if state else {"params": params}
        if not (train and state):
            return self.module.apply(variables, batch["inputs"], context), state
        outputs, changed = self.module.apply(
            variables, batch["inputs"], context, mutable=["batch_stats"]
        )
        return outputs, changed["batch_stats"]


def dropout_mask(
    key: jax.Array, position: jax.Array, shape: tuple[int, ...], rate: jax.Array | float
) -> jax.Array:
    """Mask of kept activations: f(key, position), whatever batch the example sits in.

    Args:
      key: one key a step and layer.
      position: [B] int32, places in the global batch.
      shape: shape of one example's activations.
      rate: probability of dropping, in [0, 1); may be traced.

    Returns:
      [B, *shape] bool, True where kept.
    """

    def of_example(place: jax.Array) -> jax.Array:
        return jax.random.uniform(jax.random.fold_in(key, place), shape) >= rate

    return jax.vmap(of_example)(position)


class Dropout(nn.Module):
    """x * mask / (1 - rate) in training; x in evaluation, or where the rate is not given.

    ``nn.Dropout`` needs a rate known at compile time; this one reads it from
    ``context.hyperparameters[self.rate]``, so that a new rate does not recompile. Two layers
    draw different masks because the layer's path is folded into the step's key.

    Attributes:
      rate: name of the hyperparameter.
    """

    rate: str = "dropout_rate"

    @nn.compact
    def __call__(self, x: jax.Array, context: Context) -> jax.Array:
        if not context.train or self.rate not in context.hyperparameters:
            return x
        rate = context.hyperparameters[self.rate]
        key = jax.random.fold_in(context.key, zlib.crc32("/".join(self.path).encode()))
        mask = dropout_mask(key, context.position, x.shape[1:], rate)
        scale = jnp.asarray(1.0 / (1.0 - rate), x.dtype)
        return jnp.where(mask, x * scale, jnp.zeros_like(x))
