"""A workload set up to be examined: a few prepared examples, its model and losses, short training.

Examples pass the workload's preprocessing once, in evaluation mode: nothing is augmented, and what
is measured is the same at every step. All trains at one batch size, so that one program is
compiled for whatever is asked of it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spec.errors import StudyError, in_one_line
from experiments.spec.trial import Precision, TrialConfig
from experiments.training.evaluation import evaluation_data, make_evaluation
from experiments.training.order import ExampleOrder, trial_keys
from experiments.training.state import TrainState, gather, init_state, key_of, make_task
from experiments.training.step import make_step
from optimizers import OPTIMIZERS
from workloads.base import Workload
from workloads.datasets.base import Dataset, read, size_of

BATCH_SIZE = 20
"""CS231n's: that many examples must be learned by heart."""
TRAIN_EXAMPLES, VALIDATION_EXAMPLES = 512, 256
CHUNK = 25
"""Steps of one call of the compiled program."""
REGULARISERS = ("dropout", "smoothing", "weight_decay", "penalty", "l1", "l2")
"""A hyperparameter with one of these in its name is 0 where regularization is off."""

Examples = Mapping[str, np.ndarray]
Hyperparameters = Mapping[str, jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Pipeline:
    """A workload under examination.

    Attributes:
      config: static configuration of its short trials; it has no preprocessing.
      train, validation: prepared examples, role -> [n, ...].
      classes: number of classes or tokens of the dataset, where there is one.
      seed: of parameters and of the order of examples.
    """

    config: TrialConfig
    train: Examples
    validation: Examples
    classes: int | None
    seed: int

    def hyperparameters(self, learning_rate: float, regularised: bool = False) -> Hyperparameters:
        """Defaults of optimizer and workload; 0 for `REGULARISERS` unless ``regularised``."""
        rows = OPTIMIZERS[self.config.optimizer].hyperparameters
        found = {row.name: row.default for row in rows} | dict(self.config.workload.hyperparameters)
        found["learning_rate"] = learning_rate
        return {
            name: jnp.float32(0.0 if is_regulariser(name) and not regularised else value)
            for name, value in found.items()
            if value is not None
        }

    def start(self, hyperparameters: Hyperparameters, steps: int = 1_000_000) -> TrainState:
        """The state before the first step; traced anew at every call."""
        one = gather(jax.tree.map(jnp.asarray, first(self.train, 1)), jnp.zeros(1, jnp.int32))
        keys = jnp.asarray(trial_keys(self.seed, 0))

        def init(hyperparameters: Hyperparameters) -> TrainState:
            with jax.default_matmul_precision(self.config.precision.matmul):
                return init_state(self.config, keys, hyperparameters, jnp.int32(steps), one)

        state: TrainState = jax.jit(init)(hyperparameters)
        return state

    @functools.cached_property
    def _advance(self) -> Callable[..., Any]:
        step = make_step(self.config, True)

        def advance(state: TrainState, hyperparameters: Any, data: Any, rows: jax.Array) -> Any:
            def one(state: TrainState, numbers: jax.Array) -> tuple[TrainState, Any]:
                return step(state, hyperparameters, gather(data, numbers))

            return jax.lax.scan(one, state, rows)

        return jax.jit(advance)

    def advance(
        self, state: TrainState, hyperparameters: Hyperparameters, data: Examples, rows: np.ndarray
    ) -> tuple[TrainState, dict[str, np.ndarray]]:
        """(state, measurements [steps]) after a step on each row of example numbers [steps, B]."""
        measured: list[Any] = []
        data = jax.tree.map(jnp.asarray, dict(data))
        for begin in range(0, len(rows), CHUNK):
            part = jnp.asarray(rows[begin : begin + CHUNK], jnp.int32)
            state, found = self._advance(state, hyperparameters, data, part)
            measured.append(jax.device_get(found))
        return state, {n: np.concatenate([m[n] for m in measured]) for n in measured[0]}

    def rows(self, steps: int) -> np.ndarray:
        """Example numbers [steps, B] in a trial's order."""
        order = ExampleOrder(self.seed, 0, len(self.train["inputs"]))
        return order.take(steps * BATCH_SIZE).reshape(steps, BATCH_SIZE)

    @functools.cached_property
    def _measure(self) -> Callable[..., Any]:
        task = make_task(self.config)

        @functools.partial(jax.jit, static_argnames="train")
        def measure(state: TrainState, hyperparameters: Any, batch: Any, train: bool) -> Any:
            with jax.default_matmul_precision(self.config.precision.matmul):
                outputs, _ = task.model.apply(
                    state.params, state.model_state, batch, key=key_of(state.key), train=train,
                    hyperparameters=hyperparameters,
                )  # fmt: skip
                sums = dict(task.losses.metrics(outputs, batch))
                sums["objective"] = task.losses.objective(outputs, batch, hyperparameters)
            means = {name: jnp.sum(s) / jnp.sum(c) for name, (s, c) in sums.items()}
            return means, outputs

        return measure

    def measure(
        self, state: TrainState, hyperparameters: Hyperparameters, examples: Examples,
        *, train: bool,
    ) -> tuple[dict[str, float], Any]:  # fmt: skip
        """(mean of every metric and of ``objective``, the outputs) on all examples at once."""
        means, outputs = self._measure(state, hyperparameters, whole(examples), train=train)
        return {name: float(mean) for name, mean in means.items()}, jax.device_get(outputs)

    def evaluate(self, state: TrainState, hyperparameters: Hyperparameters, batch: int) -> Any:
        """Sums and counts of every metric on validation, ``batch`` examples at a time."""
        split = {role: self.validation[role] for role in ("inputs", "targets")}
        data = evaluation_data({"validation": split, "train": split}, 1, batch)
        found = jax.jit(make_evaluation(self.config))(state, hyperparameters, data)
        name = "validation/"
        return {
            key.removeprefix(name): np.asarray(pair, np.float64)
            for key, pair in found.items()
            if key.startswith(name)
        }


def pipeline_of(workload: Workload, dataset: Dataset, optimizer: str, seed: int = 0) -> Pipeline:
    """A workload with some examples of its dataset.

    Raises:
      StudyError: the model cannot be built or does not take the examples.
      DataError: the examples cannot be read.
    """
    plain = dataclasses.replace(workload, preprocess=None)
    norms = {"record_norms": "every", "norms_per_layer": True}
    config = TrialConfig(plain, optimizer, "constant", Precision(), **norms)  # type: ignore[arg-type]
    try:
        task = make_task(dataclasses.replace(config, workload=workload))

        def prepared(split: str, most: int) -> Examples:
            count = min(most, size_of(dataset.splits[split]))
            batch = whole(read(dataset.splits[split], np.arange(count)))
            found = task.preprocess(batch, jax.random.key(0), False)
            return {
                role: np.asarray(array)
                for role, array in found.items()
                if role not in ("weights", "position")
            }

        train = prepared("train", TRAIN_EXAMPLES)
        validation = prepared("validation", VALIDATION_EXAMPLES)
        pipeline = Pipeline(config, train, validation, dataset.classes, seed)
        jax.eval_shape(pipeline.start, pipeline.hyperparameters(1e-3))
    except (Exception, SystemExit) as error:
        if isinstance(error, StudyError) or type(error).__name__ == "DataError":
            raise
        raise StudyError(
            f"workload {workload.name} cannot be built: {in_one_line(error)}"
        ) from error
    return pipeline


def is_regulariser(name: str) -> bool:
    """True where the name says that the hyperparameter regularizes."""
    return any(part in name for part in REGULARISERS)


def first(examples: Examples, count: int) -> Examples:
    """The first ``count`` examples."""
    return {role: array[:count] for role, array in examples.items()}


def whole(examples: Examples) -> dict[str, Any]:
    """All examples as one batch, every weight one."""
    count = len(examples["inputs"])
    return {
        **{role: jnp.asarray(array) for role, array in examples.items()},
        "weights": jnp.ones(count, jnp.float32),
        "position": jnp.arange(count, dtype=jnp.int32),
    }
