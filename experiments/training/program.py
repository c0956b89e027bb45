"""The compiled programs of a configuration: start a slot, advance a pack by many steps.

What bounds a small trial is dispatch (about 0.2 ms a call on a CPU, more than the arithmetic of
a step), so one call makes many steps, evaluations included, inside one loop on the device. All
programs work on a pack: every array of the state has a leading axis [slots]. A lone slot is traced
without it: an axis of one costs a copy of every parameter at every step.
"""

from __future__ import annotations

import collections
import functools
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.spec.trial import LAYERS, TrialConfig
from experiments.training.evaluation import make_evaluation
from experiments.training.feed import INITIAL_LOSS_EXAMPLES, ResidentData
from experiments.training.layout import (
    DATA,
    ONE_DEVICE,
    TRIALS,
    Layout,
    P,
    Places,
    Spread,
    cut,
)
from experiments.training.step import (
    Hyperparameters,
    TrainState,
    first_divergence,
    gather,
    init_state,
    initial_loss,
    make_step,
    make_task,
)
from optimizers import OPTIMIZERS
from schedules import PLATEAU
from schedules.plateau import PlateauState, observe

NORMS = ("gradient_norm", "update_norm", "parameter_norm", "learning_rate")


def across_slots(f: Callable[..., Any], lone: bool, in_axes: tuple[int | None, ...]) -> Any:
    """``f`` for a pack: vmapped over the leading axis, or as it is where one slot has none."""
    return f if lone else jax.vmap(f, in_axes=in_axes)


def without_axis(tree: Any, axis: int = 0) -> Any:
    """A lone slot's arrays: the axis [1] dropped."""
    return jax.tree.map(lambda x: jnp.squeeze(x, axis), tree)


def with_axis(tree: Any, axis: int = 0) -> Any:
    """A lone slot's arrays as a pack of one."""
    return jax.tree.map(lambda x: jnp.expand_dims(x, axis), tree)


class CompiledOnce:
    """A jitted function for several threads: of the first calls with new shapes one compiles, the
    others wait for it. (jax alone would let each of them compile.)"""

    def __init__(self, jitted: Any):  # jax.jit's result
        self._jitted = jitted
        self._compiled: set[Hashable] = set()
        self._locks: dict[Hashable, threading.Lock] = {}

    def __call__(self, shapes: Hashable, *arguments: Any) -> Any:
        """Call with ``arguments``; ``shapes`` stands for what is compiled anew when it changes."""
        if shapes in self._compiled:
            return self._jitted(*arguments)
        with self._locks.setdefault(shapes, threading.Lock()):
            result = self._jitted(*arguments)
            self._compiled.add(shapes)
            return result

    def lower(self, *arguments: Any) -> jax.stages.Lowered:
        """The program for arguments of these shapes, to be examined and not run."""
        return self._jitted.lower(*arguments)


SLOTS, ROWS = P(TRIALS), P(None, TRIALS)
"""Arrays with a leading axis of slots; rows of a chunk, each with one."""


class Program:
    """The programs of one configuration on one dataset; thread-safe, compiled on first use.

    Attributes:
      config: the static configuration.
      layout: the devices they run on.
      train, evaluation, examples, stored: the data, see `ResidentData`.
      number: dtype of hyperparameters and of what is measured, float32 or wider.
      norms: the columns measured where norms are recorded.
      traces: how often a training program was traced, by (mode, batch size, slots): one each.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: ResidentData,
        divergence_factor: float,
        layout: Layout = ONE_DEVICE,
    ):
        _check_rule(config, layout)
        self.config = config
        self.layout = layout
        self.examples, self.stored = data.examples, data.stored
        self._data = data
        self._spread = spread = Spread(layout)
        self.train = spread.put(data.train, P())
        self.evaluation = spread.put(_padded(data.evaluation, layout.data), P(None, DATA))
        self._elsewhere: dict[Layout, Program] = {layout: self}
        self.number = np.float64 if config.precision.parameters == "float64" else np.float32
        self.traces: collections.Counter[tuple[str, int, int]] = collections.Counter()
        self.norms = NORMS if config.clipping == "none" else (*NORMS, "clipped")
        self._divergence_factor = divergence_factor
        self._step = make_step(config)
        self._evaluate = make_evaluation(config)
        # Drawing parameters is cheap to run and, optimised, slow to compile (measured on CPUs).
        on_cpu = jax.default_backend() == "cpu"
        quick = {"xla_backend_optimization_level": 0} if on_cpu else None
        whole = P()
        slot = (SLOTS, SLOTS, whole, whole, whole, whole, whole)
        self.start = CompiledOnce(
            spread.compiled(self._start, slot, (SLOTS, SLOTS), donate=(0, 1), options=quick)
        )
        self.put = CompiledOnce(
            spread.compiled(self._put, slot[:-2], (SLOTS, SLOTS), donate=(0, 1), options=quick)
        )
        # The stream, the places and the evaluation data are cut over devices.
        rows = (P(None, TRIALS, DATA), P(DATA), whole, ROWS, whole, whole, whole, P(None, DATA))
        self.chunk = CompiledOnce(
            spread.compiled(self._chunk, (SLOTS, SLOTS, *rows), (SLOTS, ROWS, ROWS), donate=(0,))
        )
        self.single_step = CompiledOnce(jax.jit(self._single_step, donate_argnums=0))
        self.evaluate = CompiledOnce(jax.jit(self._single_evaluation))
        self.observe = CompiledOnce(jax.jit(self._observe, donate_argnums=0))

    @property
    def divisible(self) -> bool:
        """Whether a step's examples may be cut: not where the rule needs the whole loss."""
        return not OPTIMIZERS[self.config.optimizer].needs_value_fn

    def at(self, layout: Layout) -> Program:
        """The same programs on other devices, made once."""
        if layout not in self._elsewhere:
            other = Program(self.config, self._data, self._divergence_factor, layout)
            other._elsewhere = self._elsewhere
            self._elsewhere[layout] = other
        return self._elsewhere[layout]

    def place(self, examples: Mapping[str, np.ndarray]) -> Any:
        """Training examples on every device."""
        return jax.device_put(self._spread.put(examples, P()))

    def places(self, batch_size: int) -> Places | None:
        """Where the examples of a step go: `parallel.cut`; None where they stay together."""
        return cut(batch_size, self.layout, self._group) if self.layout.divides else None

    @functools.cached_property
    def _group(self) -> int | None:
        return _together(self.config, self._data.train)

    def numbers(self, hyperparameters: Mapping[str, float]) -> dict[str, Any]:
        """Hyperparameters as the programs take them."""
        return {name: self.number(value) for name, value in hyperparameters.items()}

    def empty(self, slots: int, hyperparameters: Mapping[str, float]) -> tuple[Any, Any]:
        """(states, hyperparameters) of a pack of idle slots: zeros of the right shapes."""
        one = jax.eval_shape(lambda: self.numbers(hyperparameters))
        zeros = jax.tree.map(
            lambda x: jnp.zeros((slots, *x.shape), x.dtype), (self.shapes(hyperparameters), one)
        )
        return self._spread.put(zeros, SLOTS)

    def shapes(self, hyperparameters: Mapping[str, float]) -> Any:
        """A trial's state as shapes and dtypes."""
        one, keys = self.numbers(hyperparameters), np.zeros((2, 2), np.uint32)
        return jax.eval_shape(self._init, keys, one, np.int32(1), self.train)

    # What is traced.

    def _init(self, keys: Any, hyperparameters: Any, train_steps: Any, train: Any) -> TrainState:
        """A trial's state before its first step; a loss is a divergence above a multiple of the
        initial one, the objective on the first training examples."""
        first = gather(train, jnp.arange(min(INITIAL_LOSS_EXAMPLES, self.examples)))
        state = init_state(self.config, keys, hyperparameters, train_steps, first)
        loss = initial_loss(self.config, state, hyperparameters, first)
        return state._replace(loss_limit=self._divergence_factor * loss)

    def _start(
        self,
        states: TrainState,
        pack: Any,
        slot: Any,
        keys: Any,
        hyperparameters: Any,
        train_steps: Any,
        train: Any,
    ) -> Any:
        """Put a fresh trial into a slot; the others are untouched."""
        state = self._init(keys, hyperparameters, train_steps, train)
        return self._put(states, pack, slot, state, hyperparameters)

    def _put(
        self, states: TrainState, pack: Any, slot: Any, state: TrainState, hyperparameters: Any
    ) -> Any:
        """Put a trial's state into a slot; the others are untouched."""
        if self.layout.trials > 1:  # a slot of other devices is out of range here: dropped
            mine = slot - jax.lax.axis_index(TRIALS) * len(states.step)
            slot = jnp.where(mine < 0, len(states.step), mine)
        return jax.tree.map(
            lambda many, one: many.at[slot].set(one, mode="drop"),
            (states, pack),
            (state, hyperparameters),
        )

    def _pack_step(
        self,
        states: TrainState,
        hyperparameters: Any,
        indices: Any,
        places: Places | None,
        train: Any,
        lone: bool,
    ) -> Any:
        def one(state: TrainState, values: Hyperparameters, index: Any, train: Any) -> Any:
            batch = gather(train, index, places)
            return self._step(state, values, batch, axis_name=self._spread.axis)

        step = across_slots(one, lone, (0, 0, 0, None))
        return step(states, hyperparameters, indices, train)

    def _pack_evaluation(
        self,
        states: TrainState,
        hyperparameters: Any,
        indices: Any,
        places: Places | None,
        train: Any,
        evaluation: Any,
        lone: bool,
    ) -> dict[str, jax.Array]:
        """Metrics of every slot, and the norms of its next step where these are recorded.

        ``record_norms = "evaluations"`` and ``norms_per_layer`` measure at the evaluated
        parameters: the gradient is that of the batch which the next step takes, ``indices``
        [slots, B].
        """
        axis = self._spread.axis
        evaluate = functools.partial(self._evaluate, axis_name=axis)
        results = across_slots(evaluate, lone, (0, 0, None))(states, hyperparameters, evaluation)
        recorded = self.norms if self.config.record_norms == "evaluations" else ()
        if recorded or self.config.norms_per_layer:
            measured = make_step(self.config, norms=True)

            def norms(state: TrainState, values: Any, index: Any, train: Any) -> Any:
                batch = gather(train, index, places)
                _, found = measured(state, values, batch, axis_name=axis)
                layers = [name for name in found if name.startswith(LAYERS)]
                return {name: found[name] for name in (*recorded, *layers)}

            mapped = across_slots(norms, lone, (0, 0, 0, None))
            found = mapped(states, hyperparameters, indices, train)
            if recorded:
                results["finite"] &= jnp.isfinite(found["gradient_norm"])
            results |= found
        return results

    def _observe(self, states: TrainState, hyperparameters: Any, due: Any, results: Any) -> Any:
        """What an evaluation changes in the slots that were due, [slots] or [] throughout: the
        divergences it found, and what a schedule remembers that watches the goal's metric."""
        at = first_divergence(states.diverged_at, due & ~results["finite"], states.step)
        states = states._replace(diverged_at=at)
        if not isinstance(states.plateau, PlateauState):
            return states
        goal = self.config.goal
        assert goal is not None, "a schedule that watches needs a goal"
        pair = results[f"validation/{goal.metric}"]
        settings = {row.name: hyperparameters[row.name] for row in PLATEAU}
        value = pair[..., 0] / pair[..., 1]
        seen = observe(states.plateau, states.step, value, goal.sign, **settings)
        kept = jax.tree.map(
            lambda new, old: jnp.where(due, new.astype(old.dtype), old), seen, states.plateau
        )
        return states._replace(plateau=kept)

    def _chunk(
        self,
        states: TrainState,
        hyperparameters: Any,
        stream: jax.Array,
        places: Places | None,
        ends: jax.Array,
        due: jax.Array,
        anywhere: jax.Array,
        segments: jax.Array,
        train: Any,
        evaluation: Any,
    ) -> tuple[TrainState, dict[str, jax.Array], dict[str, jax.Array]]:
        """``segments`` runs of steps, each but perhaps the last followed by an evaluation.

        Args:
          stream: int32 [steps + 1, slots, B] example numbers, the row after the last step's too;
            of a device's rows where batches are cut.
          places: of these rows, see `Program.places`.
          ends: int32 [steps]; segment j makes the steps ends[j - 1] .. ends[j] - 1.
          due: bool [steps, slots], which slots are evaluated after a segment.
          anywhere: bool [steps], whether a slot is, on any device: all call the same collectives.

        Returns:
          states; evaluations, column -> [steps, slots, ...], a row a segment, zeros where nobody
          was due; norms, column -> [steps, slots], empty unless recorded at every step.
        """
        steps, slots, batch_size = stream.shape[0] - 1, *stream.shape[1:]
        self.traces["chunk", batch_size, slots] += 1
        lone = slots == 1
        if lone:
            states, hyperparameters = without_axis((states, hyperparameters))
            stream, due = without_axis((stream, due), axis=1)

        def evaluate(states: TrainState, following: jax.Array) -> dict[str, jax.Array]:
            return self._pack_evaluation(
                states, hyperparameters, following, places, train, evaluation, lone
            )

        shapes = jax.eval_shape(evaluate, states, stream[0])

        def skip(states: TrainState, following: jax.Array) -> dict[str, jax.Array]:
            del states, following
            return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)

        def advance(i: jax.Array, carry: Any) -> Any:
            states, norms = carry
            states, measured = self._pack_step(
                states, hyperparameters, stream[i], places, train, lone
            )
            return states, {k: v.at[i].set(measured[k]) for k, v in norms.items()}

        def segment(j: jax.Array, carry: Any) -> Any:
            states, evaluations, norms = carry
            first = jnp.where(j > 0, ends[j - 1], 0)
            states, norms = jax.lax.fori_loop(first, ends[j], advance, (states, norms))
            results = jax.lax.cond(anywhere[j], evaluate, skip, states, stream[ends[j]])
            states = self._observe(states, hyperparameters, due[j], results)
            evaluations = {k: v.at[j].set(results[k]) for k, v in evaluations.items()}
            return states, evaluations, norms

        evaluations = {k: jnp.zeros((steps, *v.shape), v.dtype) for k, v in shapes.items()}
        recorded = self.norms if self.config.record_norms == "every" else ()
        norms = {name: jnp.zeros(stream.shape[:-1], self.number)[:-1] for name in recorded}
        states, evaluations, norms = jax.lax.fori_loop(
            0, segments, segment, (states, evaluations, norms)
        )
        if lone:
            states, (evaluations, norms) = with_axis(states), with_axis((evaluations, norms), 1)
        return states, evaluations, norms

    def _single_step(
        self, states: TrainState, hyperparameters: Any, indices: Any, places: Any, train: Any
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One step outside a loop (execution ``loop``)."""
        slots, batch_size = indices.shape
        self.traces["loop", batch_size, slots] += 1
        if slots > 1:
            return self._pack_step(states, hyperparameters, indices, places, train, False)
        states, hyperparameters, indices = without_axis((states, hyperparameters, indices))
        return with_axis(self._pack_step(states, hyperparameters, indices, places, train, True))

    def _single_evaluation(
        self,
        states: TrainState,
        hyperparameters: Any,
        indices: Any,
        places: Any,
        train: Any,
        evaluation: Any,
    ) -> dict[str, jax.Array]:
        """One evaluation outside a loop (execution ``loop``)."""
        given = (places, train, evaluation)
        if len(indices) > 1:
            return self._pack_evaluation(states, hyperparameters, indices, *given, False)
        states, hyperparameters, indices = without_axis((states, hyperparameters, indices))
        return with_axis(self._pack_evaluation(states, hyperparameters, indices, *given, True))


def check_cuts(
    config: TrialConfig, train: Mapping[str, Any], layout: Layout, batch_sizes: Sequence[int]
) -> None:
    """ValueError where a rule or a batch norm forbids the cuts of ``layout`` at a batch size."""
    if layout.divides:
        _check_rule(config, layout)
        together = _together(config, train)
        for batch_size in batch_sizes:
            cut(batch_size, layout, together)


def _check_rule(config: TrialConfig, layout: Layout) -> None:
    if layout.divides and OPTIMIZERS[config.optimizer].needs_value_fn:
        raise ValueError(
            f"{config.optimizer} needs the loss of the whole batch: its examples cannot be cut "
            "over devices or into micro-batches"
        )


def _together(config: TrialConfig, train: Mapping[str, Any]) -> int | None:
    """What the model says must not be cut apart (`workloads.base.Model`)."""
    model = make_task(config).model
    if not hasattr(model, "together"):
        return 1
    first = {role: jnp.asarray(array[:1]) for role, array in train.items()}
    return model.together(gather(first, jnp.zeros([1], jnp.int32)))


def _padded(evaluation: Mapping[str, Any], parts: int) -> dict[str, Any]:
    """Evaluation batches whose examples divide by the devices; padding has weight zero."""
    missing = -evaluation["weights"].shape[1] % parts
    if not missing:
        return dict(evaluation)
    return {
        role: np.pad(np.asarray(x), [(0, 0), (0, missing)] + [(0, 0)] * (x.ndim - 2))
        for role, x in evaluation.items()
    }
