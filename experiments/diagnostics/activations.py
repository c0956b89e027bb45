"""Activations and gradients of every layer of any model, read off its traced program.

A model is two functions; it names no layers. Its program does: matrix products and convolutions are
layers, ``max(x, 0)`` is a ReLU, and the name stack of an operation holds the module it was traced
in. Loops (an LSTM's) are one operation here: what goes on inside is not seen.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.pipeline import Examples, Hyperparameters, Pipeline, whole
from experiments.training.state import TrainState, key_of, make_task

LINEAR = ("dot_general", "conv_general_dilated")
SATURATING = ("tanh", "logistic")
SAMPLES = 2000
"""Values of a layer that a histogram is made of."""
_CALLS = (
    "jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call", "remat2", "checkpoint",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Layer:
    """One operation's outputs over the examples, or one parameter's gradient.

    Attributes:
      name: of the module or parameter; a number follows where a name is not the only one.
      kind: "linear", "relu", "tanh", "logistic"; "gradient".
      mean, deviation: of all values.
      zeros: share of values that are 0.
      units: along the last axis; ``dead`` of them are never above 0.
      sample: up to `SAMPLES` of the values.
    """

    name: str
    kind: str
    mean: float
    deviation: float
    zeros: float
    units: int
    dead: int
    sample: np.ndarray


def activations(
    pipeline: Pipeline, state: TrainState, hyperparameters: Hyperparameters, examples: Examples
) -> list[Layer]:
    """Every linear map's and nonlinearity's outputs in evaluation mode, in the program's order."""
    task = make_task(pipeline.config)
    names: list[tuple[str, str]] = []

    def apply(params: Any, batch: Any) -> Any:
        return task.model.apply(
            params, state.model_state, batch, key=key_of(state.key), train=False,
            hyperparameters=hyperparameters,
        )[0]  # fmt: skip

    @jax.jit
    def read(params: Any, batch: Any) -> list[dict[str, jax.Array]]:
        names.clear()
        found = []
        for name, kind, array in operations(apply, params, batch):
            names.append((name, kind))
            found.append(_statistics(array))
        return found

    numbers = jax.device_get(read(state.params, whole(examples)))
    unique = _unique([name for name, _ in names])
    return [
        _layer(name, kind, row) for name, (_, kind), row in zip(unique, names, numbers, strict=True)
    ]


def gradients(
    pipeline: Pipeline, state: TrainState, hyperparameters: Hyperparameters, examples: Examples
) -> list[Layer]:
    """The gradient of the mean objective in every array of the parameters, in training mode."""
    task = make_task(pipeline.config)

    @jax.jit
    def read(params: Any, batch: Any) -> list[dict[str, jax.Array]]:
        def mean(params: Any) -> jax.Array:
            outputs, _ = task.model.apply(
                params, state.model_state, batch, key=key_of(state.key), train=True,
                hyperparameters=hyperparameters,
            )  # fmt: skip
            losses, counts = task.losses.objective(outputs, batch, hyperparameters)
            return jnp.sum(losses) / jnp.sum(counts)

        return [_statistics(leaf) for leaf in jax.tree.leaves(jax.grad(mean)(params))]

    numbers = jax.device_get(read(state.params, whole(examples)))
    return [
        _layer(name, "gradient", row)
        for name, row in zip(parameter_names(state.params), numbers, strict=True)
    ]


def parameter_names(params: Any) -> list[str]:
    """PATH of every array, as in the columns ``layers/PATH/NORM``."""
    leaves = jax.tree_util.tree_flatten_with_path(params)[0]
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


def first_filters(params: Any, input_shape: Sequence[int]) -> np.ndarray | None:
    """The first layer's weights as pictures [filters, height, width, channels], None without any.

    The first kernel [h, w, channels, filters] that takes the inputs' channels; else the first
    matrix [n, units] whose n is the number of entries of the inputs, where these are an image or as
    many as a square has.
    """
    shape = tuple(input_shape)
    size = int(np.prod(shape))
    side = round(size**0.5)
    for leaf in jax.tree.leaves(params):
        array = np.asarray(leaf)
        if array.ndim == 4 and len(shape) == 3 and array.shape[2] == shape[-1]:
            return np.moveaxis(array, -1, 0)
        if array.ndim == 2 and array.shape[0] == size:
            if len(shape) == 3:
                return array.T.reshape(-1, *shape)
            if side > 2 and side * side == size:
                return array.T.reshape(-1, side, side, 1)
    return None


def neighbour_correlation(filters: np.ndarray) -> float:
    """Correlation of weights with their right and lower neighbours: 0 for noise, near 1 smooth."""
    across = [(filters[:, :, :-1], filters[:, :, 1:]), (filters[:, :-1], filters[:, 1:])]
    pairs = [np.stack([a.ravel(), b.ravel()]) for a, b in across if a.size]
    if not pairs:
        return float("nan")
    one, other = np.concatenate(pairs, axis=1)
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0


def operations(function: Callable[..., Any], *arguments: Any) -> list[tuple[str, str, jax.Array]]:
    """(module, kind, outputs) of the operations of `Layer.kind` that ``function`` makes."""
    closed = jax.make_jaxpr(function)(*arguments)
    found: list[tuple[str, str, jax.Array]] = []
    _evaluate(closed, jax.tree.leaves(arguments), "", found)
    return found


def _evaluate(
    closed: Any, arguments: Sequence[Any], within: str, found: list[tuple[str, str, jax.Array]]
) -> list[Any]:
    jaxpr = closed.jaxpr
    held: dict[Any, Any] = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    held |= dict(zip(jaxpr.invars, arguments, strict=True))

    def value(atom: Any) -> Any:
        return atom.val if hasattr(atom, "val") else held[atom]

    for equation in jaxpr.eqns:
        inputs = [value(atom) for atom in equation.invars]
        name = "/".join(n for n in (within, str(equation.source_info.name_stack)) if n)
        inner = _inner(equation)
        if inner is not None:
            outputs = _evaluate(inner, inputs, name, found)
        else:
            bound = equation.primitive.get_bind_params(equation.params)
            # A pair (functions, parameters) in earlier versions of jax.
            functions, parameters = bound if isinstance(bound, tuple) else ((), bound)
            made = equation.primitive.bind(*functions, *inputs, **parameters)
            outputs = list(made) if equation.primitive.multiple_results else [made]
        kind = _kind(equation)
        if kind and jnp.issubdtype(outputs[0].dtype, jnp.floating) and outputs[0].ndim > 1:
            found.append((name or kind, kind, outputs[0]))
        held |= dict(zip(equation.outvars, outputs, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _inner(equation: Any) -> Any:
    """The program that a call calls, None for an operation."""
    if equation.primitive.name not in _CALLS:
        return None
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr"))
    return inner if hasattr(inner, "consts") else jax.extend.core.ClosedJaxpr(inner, ())


def _kind(equation: Any) -> str:
    name = equation.primitive.name
    if name in LINEAR:
        return "linear"
    if name in SATURATING:
        return name
    zeros = [a for a in equation.invars if hasattr(a, "val") and np.all(np.asarray(a.val) == 0)]
    return "relu" if name == "max" and zeros else ""


@functools.partial(jax.jit, inline=True)
def _statistics(array: jax.Array) -> dict[str, jax.Array]:
    flat = array.reshape(-1)
    stride = max(1, flat.size // SAMPLES)
    wide = flat.astype(jnp.promote_types(flat.dtype, jnp.float32))
    rows = array.reshape(-1, array.shape[-1]) if array.ndim else array.reshape(1, 1)
    return {
        "mean": jnp.mean(wide),
        "deviation": jnp.std(wide),
        "zeros": jnp.mean((flat == 0).astype(jnp.float32)),
        "dead": jnp.sum(jnp.all(rows <= 0, axis=0)),
        "units": jnp.int32(rows.shape[1]),
        "sample": wide[::stride][:SAMPLES],
    }


def _layer(name: str, kind: str, row: dict[str, Any]) -> Layer:
    numbers = {key: float(row[key]) for key in ("mean", "deviation", "zeros")}
    sample = np.asarray(row["sample"], np.float64)
    return Layer(name, kind, units=int(row["units"]), dead=int(row["dead"]), sample=sample,
                 **numbers)  # fmt: skip


def _unique(names: Sequence[str]) -> list[str]:
    """Names with a number from the second of a name on."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found
