"""The compiled programs of a configuration: compiled once, on the devices of a layout, with the
data that they read. What they compute is in pack.py."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import threading
from collections.abc import Callable, Collection, Hashable, Mapping

import jax
import numpy as np

from experiments.spec.trial import TrialConfig
from experiments.training import pack as packs
from experiments.training.advance import advance
from experiments.training.computation import INITIAL_LOSS_EXAMPLES, Computation, Measurement
from experiments.training.cuts import check_rule, ghost_batch_size
from experiments.training.evaluation import make_evaluation
from experiments.training.feed import ResidentData
from experiments.training.layout import ONE_DEVICE, Execution, Layout
from experiments.training.memory_use import bytes_of_example, evaluation_batch
from experiments.training.pytrees import (
    CHUNK_SPECS,
    PACK_SPECS,
    PUT_SPECS,
    RESULTS_SPECS,
    START_SPECS,
    Pack,
    StartInputs,
)
from experiments.training.sharding import (
    Compiled,
    CompilerOptions,
    P,
    PyTree,
    ShardAssignment,
    Sharding,
    cut,
)
from experiments.training.state import TrainState
from optimizers import OPTIMIZERS

Numbers = Mapping[str, float | np.floating]
"""Hyperparameters of one trial on the host."""


class CompiledOnce:
    """A jitted function for several threads: of the first calls with new shapes one compiles, the
    others wait for it. (jax alone would let each of them compile.)"""

    def __init__(self, jitted: Compiled):
        self._jitted = jitted
        self._compiled: set[Hashable] = set()
        self._locks: dict[Hashable, threading.Lock] = {}

    def __call__(self, shapes: Hashable, *arguments: PyTree) -> PyTree:
        """Call with ``arguments``; ``shapes`` stands for what is compiled anew when it changes."""
        if shapes in self._compiled:
            return self._jitted(*arguments)
        with self._locks.setdefault(shapes, threading.Lock()):
            result = self._jitted(*arguments)
            self._compiled.add(shapes)
            return result

    def lower(self, *arguments: PyTree) -> jax.stages.Lowered:
        """The program for arguments of these shapes, to be examined and not run."""
        return self._jitted.lower(*arguments)


class Program:
    """The programs of one configuration on one dataset; thread-safe, compiled on first use.

    Attributes:
      config: the static configuration.
      layout: the devices they run on.
      computation: what they are compiled for, beside shapes.
      examples, stored: the training set, see `ResidentData`.
      start, put, chunk: `pack.start`, `pack.put` and `advance` on the devices of the layout.
      single_step, evaluate: `pack.step` and `pack.evaluate`, on one device (execution "loop").
      traces: how often a training program was traced, by (mode, batch size, slots): one each.
    """

    def __init__(
        self,
        config: TrialConfig,
        data: ResidentData,
        divergence_factor: float,
        layout: Layout = ONE_DEVICE,
        *,
        measurements: tuple[Measurement, ...] = (),
    ):
        check_rule(config, layout)
        self.config, self.layout = config, layout
        self.examples, self.stored = data.examples, data.stored
        self._data = data
        self._sharding = sharding = Sharding(layout)
        self.computation = Computation(
            config,
            divergence_factor,
            min(INITIAL_LOSS_EXAMPLES, data.examples),
            sharding.axis,
            layout.trials,
            measurements,
        )
        self.traces: collections.Counter[tuple[str, int, int]] = collections.Counter()
        self._lock = threading.Lock()
        self._example_bytes: int | None = None
        self._state_shapes: dict[tuple[str, ...], TrainState] = {}
        self._programs: dict[Layout, Program] = {layout: self}
        # Drawing parameters is cheap to run and, optimised, slow to compile (measured on CPUs).
        on_cpu = jax.default_backend() == "cpu"
        quick: CompilerOptions | None = {"xla_backend_optimization_level": 0} if on_cpu else None
        into_slot = functools.partial(sharding.compiled, outputs=PACK_SPECS, donate=(0,))
        self.start = CompiledOnce(
            into_slot(self._bound(packs.start), (PACK_SPECS, START_SPECS), options=quick)
        )
        self.put = CompiledOnce(
            into_slot(self._bound(packs.put), (PACK_SPECS, PUT_SPECS), options=quick)
        )
        chunk = self._counted(advance, "chunk", lambda inputs: inputs.stream)
        self.chunk = CompiledOnce(
            sharding.compiled(
                chunk, (PACK_SPECS, CHUNK_SPECS), (PACK_SPECS, RESULTS_SPECS), donate=(0,)
            )
        )
        step = self._counted(packs.step, "loop", lambda inputs: inputs.indices)
        self.single_step = CompiledOnce(jax.jit(step, donate_argnums=0))
        self.evaluate = CompiledOnce(jax.jit(self._bound(packs.evaluate), donate_argnums=0))

    def _bound(self, function: Callable[..., PyTree]) -> Callable[..., PyTree]:
        return functools.partial(function, self.computation)

    def _counted(
        self, function: Callable[..., PyTree], mode: str, indices: Callable[[PyTree], jax.Array]
    ) -> Callable[[Pack, PyTree], PyTree]:
        """The function, whose tracings are counted by the shape of its ``indices``."""

        def traced(pack: Pack, inputs: PyTree) -> PyTree:
            slots, batch_size = indices(inputs).shape[-2:]
            self.traces[mode, batch_size, slots] += 1
            return function(self.computation, pack, inputs)

        return traced

    @property
    def divisible(self) -> bool:
        """Tell whether a step's examples may be cut: not if the rule needs the whole loss."""
        return not OPTIMIZERS[self.config.optimizer].needs_value_fn

    def at(self, layout: Layout) -> Program:
        """The same programs on other devices, made once however many threads ask."""
        with self._lock:
            if layout not in self._programs:
                given = self.config, self._data, self.computation.divergence_factor, layout
                other = Program(*given, measurements=self.computation.measurements)
                other._lock, other._programs = self._lock, self._programs
                self._programs[layout] = other
            return self._programs[layout]

    def keep(self, layouts: Collection[Layout]) -> None:
        """Forget the programs and the data of all other layouts but this one's."""
        with self._lock:
            for layout in self._programs.keys() - {*layouts, self.layout}:
                del self._programs[layout]
            self._data.keep([program._sharding for program in self._programs.values()])

    # Data on the devices.

    @property
    def train(self) -> Mapping[str, jax.Array]:
        """The training examples on every device, role -> [n, ...]; the first few if streamed."""
        return self._data.train_on(self._sharding)

    def evaluation(self, batch: int) -> Mapping[str, jax.Array]:
        """The evaluation batches, role -> [batches, E, ...], of at most ``batch`` examples, cut
        over the devices."""
        return self._data.evaluation_on(self._sharding, batch)

    def planned(self, execution: Execution, batch_size: int, hyperparameters: Numbers) -> Execution:
        """The execution with its evaluation batch: its own, else what memory allows trials with
        such ``hyperparameters`` (see memory_use.py)."""
        if execution.evaluation_batch is not None:
            return execution
        with self._lock:
            if self._example_bytes is None:
                evaluate, shapes = make_evaluation(self.config), self._data.evaluation_shapes
                given = self.state_shapes(hyperparameters), self.numbers(hyperparameters)
                self._example_bytes = bytes_of_example(evaluate, *given, shapes)
        batch = evaluation_batch(execution, batch_size, self._example_bytes)
        return dataclasses.replace(execution, evaluation_batch=batch)

    def _initial_assignment(self, batch: int) -> ShardAssignment | None:
        """Micro-batches of at most ``batch`` examples for the initial loss; None where its examples
        fit, or must stay together."""
        if batch >= self.computation.initial_examples:
            return None
        try:
            pieces = Layout(micro_batch=batch)
            return cut(self.computation.initial_examples, pieces, self._group)
        except ValueError:  # a ghost batch is larger, and so a training step's memory
            return None

    def place(self, examples: Mapping[str, np.ndarray]) -> Mapping[str, jax.Array]:
        """Training examples of a window, on every device."""
        return self._sharding.put(examples, P())

    def assignment(self, batch_size: int) -> ShardAssignment | None:
        """Places of a step's examples: `sharding.cut`; None where they stay together."""
        return cut(batch_size, self.layout, self._group) if self.layout.divides else None

    @functools.cached_property
    def _group(self) -> int | None:
        return ghost_batch_size(self.config, self._data.train)

    # Trials.

    def numbers(self, hyperparameters: Numbers) -> dict[str, np.floating]:
        """Hyperparameters as the programs take them."""
        number = self.computation.number
        return {name: number(value) for name, value in hyperparameters.items()}

    def start_inputs(
        self,
        hyperparameters: Numbers,
        keys: np.ndarray,
        train_steps: int,
        *,
        slot: int = 0,
        batch: int = INITIAL_LOSS_EXAMPLES,
    ) -> StartInputs:
        """Inputs that start a trial.

        Args:
          hyperparameters: as `numbers` gives them.
          keys: uint32 [2, 2], see `order.trial_keys`.
          train_steps: the trial's length.
          slot: to start in.
          batch: the most examples of the initial loss that are taken at a time.
        """
        counts = np.int32(slot), keys, hyperparameters, np.int32(train_steps)
        return StartInputs(self.train, self._initial_assignment(batch), *counts)

    def state_shapes(self, hyperparameters: Numbers) -> TrainState:
        """A trial's state as shapes and dtypes, without the axis of slots."""
        names = tuple(hyperparameters)
        if names not in self._state_shapes:  # the model is traced
            numbers = self.numbers(hyperparameters)
            inputs = self.start_inputs(numbers, np.zeros((2, 2), np.uint32), 1)
            start = self._bound(packs.initial_state)
            self._state_shapes[names] = jax.eval_shape(start, inputs)
        return self._state_shapes[names]

    def pack_shapes(self, slots: int, hyperparameters: Numbers) -> Pack:
        """A pack as shapes and dtypes."""
        one = jax.eval_shape(lambda: self.numbers(hyperparameters))
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct((slots, *x.shape), x.dtype),
            Pack(self.state_shapes(hyperparameters), one),
        )

    def empty_pack(self, slots: int, hyperparameters: Numbers) -> Pack:
        """A pack of idle slots: zeros of the right shapes."""
        shapes = self.pack_shapes(slots, hyperparameters)
        # NumPy's: jax would compile a program for every shape.
        zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        return jax.tree.map(_own, self._sharding.put(zeros, PACK_SPECS))


def drawing_from(program: Program, data: ResidentData) -> Program:
    """The same compiled programs; trials draw as many examples as ``data`` says, whose arrays
    are of the same shapes (`ResidentData.with_spare`)."""
    other = copy.copy(program)
    other.examples, other._data = data.examples, data
    other._programs = {program.layout: other}
    return other


def _own(x: np.ndarray | jax.Array) -> jax.Array:
    """A copy on the same devices: programs take over the memory of the pack they are given."""
    return jax.device_put(x, getattr(x, "sharding", None), may_alias=False)
