"""Weights that a search's trials inherit: the last states of those that may become parents.

A trial's last state is kept in memory; one that is not there any more, after a kill or for want of
room, is trained again to the bit, its own parents before it. So a record holds no weights, and a
resume gives the same ones.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from experiments.runner.search_objectives import Origin
from experiments.search.architecture.graph import Graph, Node
from experiments.search.architecture.inheritance import Change, Inheritance, changes_between
from experiments.search.architecture.question import Architectures
from experiments.search.samplers.streams import words
from experiments.spec.trial import Trial
from experiments.training.checkpoint import Saved
from experiments.training.morphisms import Morphed, deepen, enlarge, widen
from experiments.training.saving import HeldStates
from experiments.training.sharding import PyTree
from experiments.training.state import TrainState
from optimizers import OPTIMIZERS

NETWORK = "network"
"""The module of a stack under which its graph's parameters are."""


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
        assert asked.inherit is not None and isinstance(asked.network, tuple), "it was checked"
        self._asked, self._inherit = asked, asked.inherit
        self._shape: tuple[int, ...] = asked.network
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
        parent, own = (
            self._asked.architecture(one.values).graph(NETWORK) for one in (child.before, child)
        )
        changes = changes_between(parent, own, self._shape)
        assert changes, "a parent is one that exact changes lead from"
        (word,) = words("inherited weights", child.trial.seed, child.trial.index, count=1)
        evaluated = self._rule.parameters_to_evaluate(last.opt_state, last.params)
        carried = last.opt_state if self._inherit.optimizer_state == "carry" else None
        params, statistics, opt_state = changed(
            parent, changes, evaluated, last.model_state, carried, seed=int(word) & 0x7FFFFFFF
        )
        if carried is None:
            opt_state = self._rule.transformation(numbers).init(params)
        return fresh._replace(params=params, model_state=statistics, opt_state=opt_state)

    def _check_carried(self, optimizer: str, numbers: Mapping[str, float]) -> None:
        """Try it on two layers."""
        graph = Graph(
            (Node("input"), Node("dense", (0,), 1), Node("dense", (1,), 1), Node("output", (2,)))
        )
        layer = {"affine": {"kernel": np.ones((1, 1), np.float32), "bias": np.ones(1, np.float32)}}
        params = {NETWORK: {"node1_dense": layer, "node2_dense": layer}}
        state = self._rule.transformation(numbers).init(params)
        try:
            changed(graph, (Change("deepen", 1, "dense"),), params, {}, state, seed=0)
        except ValueError as error:
            raise ValueError(f"inherit cannot carry the state of {optimizer}: {error}") from None


def changed(
    graph: Graph,
    changes: tuple[Change, ...],
    params: PyTree,
    statistics: PyTree,
    opt_state: PyTree | None,
    *,
    seed: int,
) -> tuple[PyTree, PyTree, PyTree | None]:
    """Parameters, batch statistics and optimizer state of a stack after morphisms.

    Raises:
      NotExactError: a change is not exact, or the state cannot be carried.
    """
    batch_stats = statistics.get(NETWORK, {})
    variables: dict[str, PyTree] = {"params": params[NETWORK], "batch_stats": batch_stats}
    for number, change in enumerate(changes):
        morphed = _morphed(graph, variables, change, seed + number)
        if opt_state is not None:
            opt_state = _of_stack(morphed, variables["params"]).opt_state(opt_state)
        graph, variables = morphed.graph, morphed.variables  # type: ignore[assignment]
    found = {NETWORK: variables["batch_stats"]} if batch_stats else statistics
    return {NETWORK: variables["params"]}, found, opt_state


def _morphed(graph: Graph, variables: Mapping[str, Any], change: Change, seed: int) -> Morphed:
    node, to = change.node, change.to
    if change.kind == "widen":
        assert isinstance(to, int), "a width"
        return widen(graph, variables, node, to, seed=seed, copies=False)
    assert isinstance(to, str), "an operation"
    return (deepen if change.kind == "deepen" else enlarge)(graph, variables, node, to)


def _of_stack(morphed: Morphed, before: PyTree) -> Morphed:
    """Moments of trees like a stack's parameters, whose graph is one module within."""

    def moments(tree: PyTree, power: int) -> PyTree:
        return {NETWORK: morphed.moments(tree[NETWORK], power)}

    structure = jax.tree.structure({NETWORK: before})
    params = {NETWORK: morphed.params}
    return dataclasses.replace(morphed, params=params, moments=moments, before=structure)


def heirs_of(asked: Any, optimizer: str, numbers: Mapping[str, float]) -> Heirs | None:
    """Of a search in which weights are inherited."""
    if not isinstance(asked, Architectures) or asked.inherit is None:
        return None
    return Heirs(asked, optimizer, numbers)


def further_of(asked: Any) -> int | None:
    """Epochs that an heir trains; None where there are none."""
    inherit: Inheritance | None = asked.inherit if isinstance(asked, Architectures) else None
    return None if inherit is None else inherit.further
