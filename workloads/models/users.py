"""A user's own Flax linen module as a model: called as its signature asks, nothing to subclass.

Its ``__call__`` takes the inputs, and may take by name ``train`` or ``training`` (a bool),
``deterministic`` (its negation), or ``context`` (`workloads.models.linen.Context`). Dropout draws
from the rng ``dropout``; batch statistics live in the collection ``batch_stats``. Masks of
``nn.Dropout`` belong to the whole batch, so they are equal on one device, not over several;
`workloads.models.linen.Dropout` has none of that.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from workloads.base import Batch
from workloads.models.linen import Context

_MODULES: list[nn.Module] = []
"""Modules by number: a workload is described by plain data, a module is none."""


def number_of(module: object) -> int:
    """The number of a module, the same for equal ones, by which `numbered` finds it.

    Raises:
      ValueError: it is no linen module.
    """
    if not isinstance(module, nn.Module):
        raise ValueError(f"build must return a flax.linen Module, got {module!r}")  # noqa: TRY004
    for number, known in enumerate(_MODULES):
        if known is module or known == module:
            return number
    _MODULES.append(module)
    return len(_MODULES) - 1


def numbered(*, number: int, dtype: str, param_dtype: str) -> UserModel:
    """The model of a module's number; its number formats are the module's own."""
    del dtype, param_dtype
    return UserModel(_MODULES[number])


@dataclasses.dataclass(frozen=True)
class UserModel:
    """A linen module as a `Model`."""

    module: nn.Module

    def _arguments(self, context: Context) -> dict[str, Any]:
        offered = {
            "train": context.train,
            "training": context.train,
            "deterministic": not context.train,
            "context": context,
        }
        names = inspect.signature(type(self.module).__call__).parameters
        return {name: value for name, value in offered.items() if name in names}

    def init(self, key: jax.Array, batch: Batch) -> tuple[Any, Any]:
        """(params, batch statistics), traced on the first example alone."""
        first = {role: array[:1] for role, array in batch.items()}
        context = Context(False, None, first["position"], first["weights"], {})
        inputs = jnp.zeros_like(first["inputs"])
        variables = self.module.init({"params": key}, inputs, **self._arguments(context))
        return variables["params"], variables.get("batch_stats", {})

    def ghost_batch_size(self, batch: Batch) -> int | None:
        """None, the whole batch, where it has batch statistics or draws masks for a batch."""
        del batch
        return None

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
        """(outputs [B, ...], new batch statistics)."""
        context = Context(train, key, batch["position"], batch["weights"], hyperparameters)
        variables = {"params": params, **({"batch_stats": state} if state else {})}
        rngs = {"dropout": key} if train and key is not None else {}
        given = self._arguments(context)
        if not (train and state):
            return self.module.apply(variables, batch["inputs"], rngs=rngs, **given), state
        outputs, changed = self.module.apply(
            variables, batch["inputs"], rngs=rngs, mutable=["batch_stats"], **given
        )
        return outputs, changed["batch_stats"]
