"""Weights that a search's trials inherit: the last states of those that may become parents.

A trial's last state is kept in memory; one that is not there any more, after a kill or for want of
room, is trained again to the bit, its own parents before it. So a record holds no weights, and a
resume gives the same ones.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from experiments.runner.network_growth import grown_network, places_of
from experiments.runner.search_objectives import Origin
from experiments.search.architecture.graph import Graph, Node
from experiments.search.architecture.inheritance import Inheritance
from experiments.search.architecture.question import Architectures
from experiments.search.samplers.streams import words
from experiments.spec.trial import Trial
from experiments.training.checkpoint import Saved
from experiments.training.growing import carried
from experiments.training.morphisms import deepen
from experiments.training.saving import HeldStates
from experiments.training.state import TrainState
from optimizers import OPTIMIZERS


class Heirs:
    """Begins trials with the weights of others; thread-safe.

    Args:
      asked: whose architectures they are.
      optimizer: by name.
      numbers: its hyperparameters.

    Raises:
      ValueError: moments are to be carried, and the rule's state is more than moments.
    """

    def __init__(self, asked: Architectures, optimizer: str, numbers: Mapping[str, float]):
        assert asked.inherit is not None, "it was checked"
        self._asked, self._inherit = asked, asked.inherit
        self._rule = OPTIMIZERS[optimizer]
        self._held = HeldStates()
        self._lock = threading.RLock()
        if self._inherit.optimizer_state == "carry":
            self._check_carried(optimizer, numbers)

    def keep(self, trial: Trial, state: TrainState) -> None:
        """Keep the state of a trial that has trained to its end."""
        leaves, structure = jax.tree.flatten(jax.device_get(state))
        arrays = {str(i): np.asarray(leaf) for i, leaf in enumerate(leaves)}
        self._held[trial.key] = Saved(trial.train_steps, arrays, {"structure": structure})

    def last(self, origin: Origin, again: Callable[[Origin], TrainState]) -> TrainState:
        """The state of a trial at its end; ``again`` trains it where it is not kept."""
        with self._lock:
            saved = self._held.get(origin.trial.key)
            if saved is None:
                self.keep(origin.trial, again(origin))
                saved = self._held[origin.trial.key]
        state: TrainState = jax.tree.unflatten(saved.about["structure"], saved.arrays.values())
        return state

    def grown(
        self, fresh: TrainState, child: Origin, last: TrainState, numbers: Mapping[str, Any]
    ) -> TrainState:
        """The first state of a trial: ``fresh``, with the weights of its parent's ``last``.

        Step, schedule, keys and limit of divergence are its own.

        Args:
          fresh: as it would begin anew.
          child: the trial, which has a parent.
          last: the parent's last state.
          numbers: hyperparameters as programs take them.
        """
        assert child.before is not None, "it has a parent"
        parent, own = (self._asked.architecture(one.values) for one in (child.before, child))
        (word,) = words("inherited weights", child.trial.seed, child.trial.index, count=1)
        params = self._rule.parameters_to_evaluate(last.opt_state, last.params)
        before = {"params": params, "batch_stats": last.model_state}
        begun = {"params": fresh.params, "batch_stats": fresh.model_state}
        grown = grown_network(
            places_of(parent, own, self._asked.network), before, begun, int(word) & 0x7FFFFFFF
        )
        if self._inherit.optimizer_state == "carry":
            structure = jax.tree.structure(params)
            opt_state = carried(last.opt_state, grown.moments, structure)
        else:
            opt_state = self._rule.transformation(numbers).init(grown.params)
        return fresh._replace(
            params=grown.params, model_state=grown.batch_stats, opt_state=opt_state
        )

    def _check_carried(self, optimizer: str, numbers: Mapping[str, float]) -> None:
        """Try it on two layers."""
        graph = Graph(
            (Node("input"), Node("dense", (0,), 1), Node("dense", (1,), 1), Node("output", (2,)))
        )
        layer = {"affine": {"kernel": np.ones((1, 1), np.float32), "bias": np.ones(1, np.float32)}}
        params = {"node1_dense": layer, "node2_dense": layer}
        state = self._rule.transformation(numbers).init(params)
        try:
            deepen(graph, {"params": params}, 1, "dense").opt_state(state)
        except ValueError as error:
            raise ValueError(f"inherit cannot carry the state of {optimizer}: {error}") from None


def heirs_of(asked: Any, optimizer: str, numbers: Mapping[str, float]) -> Heirs | None:
    """Of a search in which weights are inherited."""
    if not isinstance(asked, Architectures) or asked.inherit is None:
        return None
    return Heirs(asked, optimizer, numbers)


def further_of(asked: Any) -> int | None:
    """Epochs that an heir trains; None where there are none."""
    inherit: Inheritance | None = asked.inherit if isinstance(asked, Architectures) else None
    return None if inherit is None else inherit.further
