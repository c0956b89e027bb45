"""Parts of a batch that must stay together, and the layouts a configuration therefore forbids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import jax.numpy as jnp

from experiments.spec.trial import TrialConfig
from experiments.training.layout import Layout
from experiments.training.sharding import PyTree, cut
from experiments.training.state import gather, make_task
from optimizers import OPTIMIZERS


def check_cuts(
    config: TrialConfig, train: Mapping[str, PyTree], layout: Layout, batch_sizes: Sequence[int]
) -> None:
    """ValueError where a rule or a batch norm forbids the cuts of ``layout`` at a batch size."""
    if layout.divides:
        check_rule(config, layout)
        size = ghost_batch_size(config, train)
        for batch_size in batch_sizes:
            cut(batch_size, layout, size)


def check_rule(config: TrialConfig, layout: Layout) -> None:
    """ValueError where ``layout`` cuts a batch of which the update rule needs the whole loss."""
    if layout.divides and OPTIMIZERS[config.optimizer].needs_value_fn:
        raise ValueError(
            f"{config.optimizer} needs the loss of the whole batch: its examples cannot be cut "
            "over devices or into micro-batches"
        )


def ghost_batch_size(config: TrialConfig, train: Mapping[str, PyTree]) -> int | None:
    """Consecutive examples that must not be cut apart (`workloads.base.Model`); 1 where none mix,
    None for the whole batch."""
    model = make_task(config).model
    if not hasattr(model, "ghost_batch_size"):
        return 1
    first = {role: jnp.asarray(array[:1]) for role, array in train.items()}
    return model.ghost_batch_size(gather(first, jnp.zeros([1], jnp.int32)))
