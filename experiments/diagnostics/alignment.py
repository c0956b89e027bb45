"""Hidden units of a fully connected net put in the order of another's, before the line is drawn.

A permutation of a layer's hidden units, together with the rows of the next layer, changes no
output, but it changes the line to another solution. Weight matching (Ainsworth, Hayase &
Srinivasa 2023, arXiv 2209.04836, section 3.2) chooses the permutations P_l that maximise

    sum_l <W_l of one, P_l-1^T W_l P_l of the other> + inner products of biases and norm parameters

layer by layer, each an assignment problem, until none changes: a local maximum.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from experiments.diagnostics.problem import Params

ROUNDS = 100
"""The most passes over the layers; every pass raises the objective, few are needed."""


def matched_permutations(reference: Params, params: Params, seed: int = 0) -> list[np.ndarray]:
    """[hidden layers] of [units]: entry i is the unit of ``params`` that takes place i.

    Args:
      reference, params: of `workloads.models.fully_connected`, equal shapes.
      seed: of the order in which layers are visited.

    Raises:
      ValueError: parameters of another family of nets, or of other shapes.
    """
    layers, others = _layers(reference), _layers(params)
    if jax.tree.map(np.shape, layers) != jax.tree.map(np.shape, others):
        raise ValueError("only nets with the same hidden sizes can be aligned")
    sizes = [layer["kernel"].shape[1] for layer in layers[:-1]]
    found = [np.arange(size) for size in sizes]
    random = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        changed = False
        for place in random.permutation(len(found)):
            score = _score(layers, others, found, int(place))
            new = linear_sum_assignment(score, maximize=True)[1]
            gain = score[np.arange(len(new)), new].sum()
            gain -= score[np.arange(len(new)), found[place]].sum()
            if gain > 1e-12 * np.abs(score).sum():
                found[place], changed = new, True
        if not changed:
            break
    return found


def permuted(params: Params, permutations: list[np.ndarray]) -> Params:
    """The same function with the hidden units in another order.

    Batch norm's running statistics: `permuted_state`.

    Raises:
      ValueError: parameters of another family of nets.
    """
    count = len(_layers(params))
    new = dict(params)
    for place in range(count):
        name = f"Dense_{place}"
        layer = dict(params[name])
        if place > 0:
            layer["kernel"] = layer["kernel"][permutations[place - 1], :]
        if place < count - 1:
            layer = {role: x[..., permutations[place]] for role, x in layer.items()}
        new[name] = layer
    return permuted_state(new, permutations)


def permuted_state(state: Any, permutations: list[np.ndarray]) -> Any:
    """A model state, or parameters, whose normalisation layers are in the units' new order."""

    def moved(name: str, tree: Any) -> Any:
        match = re.fullmatch(r"Normalization_(\d+)", name)
        if match is None:
            return tree
        order = permutations[int(match[1])]
        return jax.tree.map(lambda x: x[order] if jnp.ndim(x) == 1 else x, tree)

    return {name: moved(name, tree) for name, tree in state.items()}


def _score(
    layers: list[dict[str, np.ndarray]],
    others: list[dict[str, np.ndarray]],
    found: list[np.ndarray],
    place: int,
) -> np.ndarray:
    """[units, units] what is gained where the other's unit j takes place i, the rest fixed."""
    mine, other = layers[place], others[place]
    entering = other["kernel"] if place == 0 else other["kernel"][found[place - 1], :]
    score = mine["kernel"].T @ entering
    for role in mine.keys() - {"kernel"}:
        score = score + np.outer(mine[role], other[role])
    leaving = others[place + 1]["kernel"]
    if place + 1 < len(found):
        leaving = leaving[:, found[place + 1]]
    return np.asarray(score + layers[place + 1]["kernel"] @ leaving.T)


def _layers(params: Params) -> list[dict[str, np.ndarray]]:
    """Per layer its kernel [in, out], bias [out], and parameters of its normalisation [out]."""
    if not isinstance(params, Mapping) or "Dense_0" not in params:
        raise ValueError("only fully connected nets (Dense_0, Dense_1, ...) can be aligned")
    count = sum(name.startswith("Dense_") for name in params)
    layers = []
    for place in range(count):
        layer = {r: np.asarray(x, np.float64) for r, x in params[f"Dense_{place}"].items()}
        norm = params.get(f"Normalization_{place}", {})
        for path, x in jax.tree_util.tree_flatten_with_path(norm)[0]:
            layer[jax.tree_util.keystr(path)] = np.asarray(x, np.float64)
        layers.append(layer)
    known = {f"{kind}_{i}" for kind in ("Dense", "Normalization") for i in range(count)}
    if unknown := params.keys() - known:
        raise ValueError(
            f"only fully connected nets can be aligned, this one has {', '.join(sorted(unknown))}"
        )
    return layers
