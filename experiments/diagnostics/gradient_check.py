"""Numerical check of a gradient, in float64 and in a process of its own.

Of a loss f at a point x, along coordinate i (CS231n, neural networks part 3):

    numeric   f_n = (f(x + h e_i) - f(x - h e_i)) / (2 h)
    analytic  f_a = e_i^T grad f(x)
    error     |f_a - f_n| / (|f_a| + |f_n|), 0 where both are 0

The step h is each of 1e-4, 1e-5 and 1e-6, the least error counts: a large step sees curvature, a
small one rounding. A difference that rounding alone explains, at a derivative too small to tell, is
none. At a kink the two one-sided differences do not approach each other as h falls; such
coordinates are counted, and their error says nothing about the gradient.

    python -m experiments.diagnostics.gradient_check < task

runs with 64 bits switched on, which in the parent would change every other program.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.activations import parameter_names
from experiments.diagnostics.pipeline import Pipeline, whole
from experiments.runtime.compilation import switched
from experiments.spec.errors import StudyError, in_one_line
from experiments.spec.loading import load_file
from experiments.spec.trial import Precision, TrialConfig
from experiments.training.state import key_of, make_task

STEPS = (1e-4, 1e-5, 1e-6)
COORDINATES = 6
"""Of every array of the parameters: half where its gradient is largest, half at random."""
EXAMPLES = 3
"""Few examples meet few kinks."""
SECONDS = 60.0
"""The most that a check takes, up to an array."""
_ROUNDING = 10 * float(np.finfo(np.float64).eps)
_SEEN = 1e-6
"""Of the derivative: rounding below it does not hide an error."""
_KINK = 1e-3
"""Of the derivative: the least difference of one-sided derivatives that counts as a kink."""


@dataclasses.dataclass(frozen=True)
class Checked:
    """Of one array of the parameters.

    Attributes:
      name: its path.
      analytic, numeric, error: [k] of the coordinates.
      kinks: [k] whether a kink lies within the smallest step.
    """

    name: str
    analytic: Sequence[float]
    numeric: Sequence[float]
    error: Sequence[float]
    kinks: Sequence[bool]


def check_gradient(
    loss: Callable[[Any], jax.Array], params: Any, seed: int = 0, seconds: float = SECONDS
) -> list[Checked]:
    """Some coordinates of every array of ``params``, whose numbers are float64.

    The arrays come in random order; none is begun after ``seconds``.

    Raises:
      ValueError: a number of another kind.
    """
    leaves, tree = jax.tree.flatten(params)
    for leaf in leaves:
        if leaf.dtype != np.float64:
            raise ValueError(f"parameters must be float64 to be checked, got {leaf.dtype}")
    value = jax.jit(loss)
    gradient = [np.asarray(g) for g in jax.tree.leaves(jax.jit(jax.grad(loss))(params))]
    middle = float(value(params))
    random = np.random.default_rng(seed)
    names, began = parameter_names(params), time.perf_counter()
    found: list[Checked] = []
    for place in random.permutation(len(names)):
        if found and time.perf_counter() - began > seconds:
            break

        def at(index: int, h: float, place: int = int(place)) -> float:
            moved = np.array(leaves[place])
            moved.flat[index] += h
            return float(
                value(jax.tree.unflatten(tree, [*leaves[:place], moved, *leaves[place + 1 :]]))
            )

        chosen = _chosen(gradient[place].ravel(), random)
        rows = [_coordinate(at, int(i), float(gradient[place].flat[i]), middle) for i in chosen]
        numeric, error, kinks = zip(*rows, strict=True)
        analytic = [float(gradient[place].flat[i]) for i in chosen]
        found.append(Checked(names[place], analytic, numeric, error, kinks))
    return found


def _chosen(gradient: np.ndarray, random: np.random.Generator) -> np.ndarray:
    largest = np.argsort(-np.abs(gradient), kind="stable")[: COORDINATES // 2]
    others = random.choice(gradient.size, min(COORDINATES - len(largest), gradient.size), False)
    return np.unique(np.concatenate([largest, others]))


def _coordinate(
    at: Callable[[int, float], float], index: int, analytic: float, middle: float
) -> tuple[float, float, bool]:
    """(numeric derivative, relative error, kink) of the step with the least error."""
    best = (0.0, float("inf"))
    apart = []
    for h in STEPS:
        ahead, behind = at(index, h), at(index, -h)
        numeric = (ahead - behind) / (2 * h)
        noise = _ROUNDING * max(abs(middle), abs(ahead), abs(behind)) / h
        size = abs(analytic) + abs(numeric)
        gap = abs(analytic - numeric)
        error = 0.0 if gap <= noise and noise >= _SEEN * size else gap / size
        if not np.isfinite(numeric):
            error = 1.0
        if error < best[1]:
            best = (numeric, error)
        apart.append((abs(ahead - 2 * middle + behind) / h, noise, size))
    # Of a smooth loss the one-sided derivatives approach each other as h.
    gap, noise, size = apart[-1]
    kink = gap > _KINK * size + 4 * noise and gap > 0.5 * apart[-2][0]
    return *best, bool(kink)


@dataclasses.dataclass(frozen=True)
class GradientTask:
    """A request to a child process; arrays are NumPy's.

    Attributes:
      config: static configuration, any precision: it is checked in float64.
      params, model_state: where.
      batch: the examples, with weights and positions.
      hyperparameters: of the objective.
      key: of masks, the same at every evaluation.
      study_file: the user's file that defines what the workload names, "" without one.
    """

    config: TrialConfig
    params: Any
    model_state: Any
    batch: Mapping[str, np.ndarray]
    hyperparameters: Mapping[str, float]
    key: np.ndarray
    seed: int
    study_file: str = ""


def task_of(
    pipeline: Pipeline, state: Any, hyperparameters: Mapping[str, Any], study_file: str = ""
) -> GradientTask:
    """The check of a pipeline's objective at a state's parameters, on a few examples."""
    batch = {role: np.asarray(a)[:EXAMPLES] for role, a in whole(pipeline.train).items()}
    numbers = {name: float(number) for name, number in hyperparameters.items()}
    arrays = jax.device_get((state.params, state.model_state, state.key))
    return GradientTask(
        pipeline.config, arrays[0], arrays[1], batch, numbers, arrays[2], pipeline.seed, study_file
    )


def ask(task: GradientTask) -> list[Checked]:
    """`check_gradient` of a task, by a child process.

    Raises:
      StudyError: the child failed; its last line.
    """
    command = [sys.executable, "-m", "experiments.diagnostics.gradient_check"]
    asked = task.study_file.encode() + b"\0" + pickle.dumps(task)
    done = subprocess.run(command, input=asked, capture_output=True, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith(b"{")]
    answer = json.loads(lines[-1]) if lines else {}
    if "arrays" not in answer:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise StudyError(f"the gradient check failed: {answer.get('error', last)}")
    return [Checked(**row) for row in answer["arrays"]]


def _loss(task: GradientTask) -> tuple[Callable[[Any], jax.Array], Any]:
    """(parameters -> the mean objective in training mode, the parameters in float64)."""
    wide = dataclasses.replace(task.config, precision=Precision("float64", "float64"))
    made = make_task(wide)
    params, state = jax.tree.map(_wide, (task.params, task.model_state))
    batch = {role: _wide(array) for role, array in task.batch.items()}
    hyperparameters = {name: jnp.float64(n) for name, n in task.hyperparameters.items()}
    key = key_of(jnp.asarray(task.key))

    def loss(params: Any) -> jax.Array:
        outputs, _ = made.model.apply(
            params, state, batch, key=key, train=True, hyperparameters=hyperparameters
        )
        losses, counts = made.losses.objective(outputs, batch, hyperparameters)
        return jnp.sum(losses) / jax.lax.stop_gradient(jnp.sum(counts))

    return loss, params


def _wide(array: Any) -> np.ndarray:
    array = np.asarray(array)
    return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array


def main() -> int:
    """Check what standard input asks for."""
    text = sys.stdin.buffer.read()
    try:
        with switched(float64=True):
            found = check_gradient(*_loss(_loaded(text)))
    except Exception as error:  # noqa: BLE001 (a user's model may raise anything)
        print(json.dumps({"error": in_one_line(error)}), flush=True)
        return 1
    print(json.dumps({"arrays": [dataclasses.asdict(row) for row in found]}), flush=True)
    return 0


def _loaded(text: bytes) -> GradientTask:
    """The task; a user's file comes first, since its models are found by its module's name."""
    file, _, pickled = text.partition(b"\0")
    if file:
        load_file(Path(file.decode()))
    task: GradientTask = pickle.loads(pickled)
    return task


if __name__ == "__main__":
    sys.exit(main())
