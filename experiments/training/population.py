"""A population: the trials of one batch size, trained in the slots of a pack.

A slot whose trial has ended takes the next one without recompiling; every slot has its own step
counter, schedule, example order and evaluation grid. What a trial returns does not depend on its
slot, its neighbours or when it started.

Trials whose batch grows run as cohorts: they start together, so that all slots are at one step
and one batch size, and free slots wait for the next cohort. One program is compiled for each
distinct batch size; the rate's multiplier of a phase is data.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from experiments.runtime import hosts
from experiments.spec.trial import Status, Trial, TrialResult, evaluation_steps
from experiments.training.checkpoint import CheckpointError
from experiments.training.feed import MAX_CHUNK_STEPS, Feed
from experiments.training.layout import ONE_DEVICE
from experiments.training.order import ExampleOrder, trial_keys
from experiments.training.program import Program
from experiments.training.resume import BEST_SHARE, Checkpoints, packed, restored
from experiments.training.slots import Chunk, Slot, Table, collect, joined
from experiments.training.step import PHASE_RATE, TrainState
from schedules.batch_size import Phase, Stretch, constant, examples_after, stretch_at, stretches

Mode = Literal["loop", "scan", "packed"]
TARGET_CHUNK_SECONDS = 0.05


class Population:
    """The slots of one pack.

    Args:
      program: the compiled programs.
      batch_size: B, of the first step.
      slots: N, a power of two (1 unless ``mode`` is "packed").
      mode: "loop" dispatches every step, "scan" and "packed" many steps in one call.
      grid: train_steps -> the steps after which a trial is evaluated, ascending.
      plan: index recorded with every result.
      checkpoints: where long trials are saved and go on; None saves nothing.
      phases: of the batch size (schedules/batch_size.py); none: ``batch_size`` throughout.
    """

    def __init__(
        self,
        program: Program,
        batch_size: int,
        slots: int = 1,
        mode: Mode = "scan",
        grid: Callable[[int], Sequence[int]] = evaluation_steps,
        plan: int = 0,
        checkpoints: Checkpoints | None = None,
        phases: Sequence[Phase] = (),
    ):
        if slots < 1 or slots & (slots - 1):
            raise ValueError(f"slots must be a power of two, got {slots}")
        self._program = program
        self._parts = stretches(phases or constant(batch_size))
        self._mode = mode
        self._grid = grid
        self._plan = plan
        # The trials of a cohort start again together: none goes on alone.
        self._checkpoints = checkpoints if len(self._parts) == 1 or slots == 1 else None
        norms, device = program.config.record_norms, jax.local_devices()[0].device_kind
        together = f"{hosts.count()} processes" if hosts.several() else ""
        how = (f"{mode} x {slots}", str(program.layout), together, f"norms {norms}", device)
        self._how = ", ".join(word for word in how if word)
        self._seconds = self._saving_seconds = 0.0
        self._slots: list[Slot | None] = [None] * slots
        self._states: Any = None
        self._pack: Any = None
        self._open = contextlib.ExitStack()
        self._enter(self._parts[0])

    def run(
        self,
        next_trial: Callable[[], Trial | None],
        emit: Callable[[TrialResult], None],
        advanced: Callable[[int], bool] = lambda steps: True,
    ) -> None:
        """Train until ``next_trial`` returns None and every slot is free.

        ``emit`` takes each result as it ends; ``advanced(steps)`` is called after every chunk
        with the trial-steps made and stops the run, dropping unfinished trials, by returning
        False.
        """
        with self._open:
            while self._fill(next_trial):
                steps = self._advance()
                for result in self._finished():
                    emit(result)
                self.save(self._due)
                if not advanced(steps):
                    return

    def _fill(self, next_trial: Callable[[], Trial | None]) -> bool:
        """Start trials in free slots, unless a cohort is under way; whether any trial runs."""
        if len(self._parts) == 1 or not self.trials:
            for slot, running in enumerate(self._slots):
                if running is None and (trial := next_trial()) is not None:
                    self._start(slot, trial)
                    if self._checkpoints:
                        self._checkpoints.go_on(trial, self._at(slot).step)
        return bool(self.trials)

    @property
    def trials(self) -> list[Trial]:
        """The trials in the slots now."""
        return [running.trial for running in self._slots if running is not None]

    @property
    def steps_under_way(self) -> int:
        """Steps that the trials in the slots have made."""
        return sum(running.step for running in self._slots if running is not None)

    def train_to(self, trial: Trial, step: int) -> tuple[TrainState, dict[str, np.ndarray]]:
        """(state, evaluations) of ``trial`` after ``step`` steps, as when it ran its whole length.

        Begins at its newest checkpoint that is not past ``step``. The state is a lone trial's.
        """
        with self._open:
            self._start(0, trial, step)
            while self._at(0).step < step:
                self._advance(step - self._at(0).step)
        return jax.tree.map(lambda x: x[0], self._states), joined(
            self._at(0).evaluations, step, False
        )

    def _at(self, slot: int) -> Slot:
        running = self._slots[slot]
        assert running is not None
        return running

    @property
    def _shapes(self) -> tuple[int, int]:
        """What a step is compiled for: (batch size, slots)."""
        return self._part.batch_size, len(self._slots)

    def _enter(self, part: Stretch) -> None:
        """What follows is of this batch size."""
        self._part = part
        self._seconds_per_step: float | None = None
        program, size = self._program, part.batch_size
        self._places = program.places(size)
        self._open.close()  # a larger batch is read ahead anew
        feed = Feed(program.train, program.stored, size, len(self._slots), program.place)
        self._feed = self._open.enter_context(feed)

    def _follow(self) -> None:
        """Change to the batch size and the rate that the running trials have come to."""
        steps = {slot.step for slot in self._slots if slot is not None}
        part = stretch_at(self._parts, max(steps)) if len(self._parts) > 1 else self._part
        if part is self._part:
            return
        assert len(steps) == 1, "the trials of a cohort are at one step"
        self._enter(part)
        consumed = int(examples_after(self._parts, max(steps)))
        for slot in self._slots:
            if slot is not None:  # what was to follow is taken again, at the new size
                slot.order.move(*divmod(consumed, self._program.examples))
                slot.following = slot.order.take(part.batch_size)
        rate = jnp.full_like(self._pack[PHASE_RATE], part.rate_multiplier)
        self._pack = {**self._pack, PHASE_RATE: rate}

    def _values(self, trial: Trial) -> dict[str, Any]:
        """What a trial's programs read: its hyperparameters and, of a growing batch, its phase's."""
        grows = self._program.config.batch_size_schedule != "constant"
        phase = {PHASE_RATE: self._part.rate_multiplier} if grows else {}
        return self._program.numbers({**trial.hyperparameters, **phase})

    def _start(self, slot: int, trial: Trial, most: float = math.inf) -> None:
        program = self._program
        if self._part is not self._parts[0]:
            self._enter(self._parts[0])  # the first of a cohort
        order = ExampleOrder(trial.seed, trial.index, program.examples)
        grid = np.asarray(self._grid(trial.train_steps))
        following = order.take(self._part.batch_size)
        self._slots[slot] = Slot(trial, order, grid, following, self._parts)
        values = self._values(trial)
        if self._states is None:
            self._states, self._pack = program.empty(len(self._slots), values)
        if self._resume(slot, trial, most):
            return
        self._states, self._pack = program.start(
            len(self._slots),
            self._states,
            self._pack,
            np.int32(slot),
            trial_keys(trial.seed, trial.index),
            values,
            np.int32(trial.train_steps),
            program.train,
        )

    # Checkpoints.

    def _resume(self, slot: int, trial: Trial, most: float) -> bool:
        """Go on where ``trial`` was saved, at most ``most`` steps in; whether that was possible."""
        if self._checkpoints is None:
            return False
        saved = self._checkpoints.newest(trial, self._how, most)
        if saved is None:
            return False
        shapes = self._program.shapes(trial.hyperparameters)
        try:
            state = restored(self._at(slot), saved, shapes)
        except CheckpointError as error:
            self._checkpoints.warn(f"{self._checkpoints.of(trial)} is not used: {error}")
            return False
        self._states, self._pack = self._program.put(
            len(self._slots),
            self._states,
            self._pack,
            np.int32(slot),
            state,
            self._values(trial),
        )
        return True

    def save(self, wanted: Callable[[Slot], bool] = lambda slot: slot.step > 0) -> None:
        """Save the ``wanted`` running trials (by default all), where that has not been done.

        Of several processes the first does: every one has the whole state.
        """
        if self._checkpoints is None or not hosts.first():
            return
        running = [(i, slot) for i, slot in enumerate(self._slots) if slot is not None]
        chosen = [(i, slot) for i, slot in running if slot.step > slot.saved_step and wanted(slot)]
        if not chosen:
            return
        began = time.perf_counter()
        states = jax.device_get(self._states)
        for i, slot in chosen:
            slot.saved_step, slot.saved_at = slot.step, slot.ran
            arrays, about = packed(slot, jax.tree.map(lambda x, i=i: x[i], states))
            ranks = self._checkpoints.ranks(slot.evaluations)
            rank = float(ranks[-1]) if slot.evaluated else None
            self._checkpoints.save(slot.trial, arrays, {**about, "how": self._how}, rank)
        self._saving_seconds += time.perf_counter() - began

    def _due(self, slot: Slot) -> bool:
        """Whether a trial is to be saved now: see resume.py."""
        if self._checkpoints is None or slot.ran < self._checkpoints.seconds:
            return False
        if slot.ran - slot.saved_at >= self._checkpoints.seconds:
            return True
        if not slot.evaluated or self._saving_seconds > BEST_SHARE * self._seconds:
            return False
        ranks = self._checkpoints.ranks(slot.evaluations)
        return bool(ranks[-1] < np.min(ranks[:-1], initial=np.inf))

    # Chunks.

    def _length(self) -> int:
        """Steps of the next chunk: about `TARGET_CHUNK_SECONDS`, never past a trial's end or a
        change of the batch size, nor past the next evaluation of a trial that may be saved there.
        """
        if self._seconds_per_step is None:
            wanted = 8
        else:
            wanted = int(TARGET_CHUNK_SECONDS / self._seconds_per_step)
        borders = [part.step for part in self._parts if part.step > self._part.step][:1]
        running = [slot for slot in self._slots if slot is not None]
        ends = [min([slot.trial.train_steps, *borders]) - slot.step for slot in running]
        if self._checkpoints:
            long = [slot for slot in running if slot.ran >= self._checkpoints.seconds]
            ends += [slot.next_evaluation - slot.step for slot in long]
        return hosts.agreed_number(max(1, min(self._feed.most_steps, wanted, *ends)))

    def _inputs(self, count: int) -> Chunk:
        """What the next ``count`` steps need."""
        most, size = self._feed.most_steps, self._part.batch_size
        stream = np.zeros((most + 1, len(self._slots), size), np.int32)
        evaluated = np.zeros((count, len(self._slots)), bool)
        for i, slot in enumerate(self._slots):
            if slot is None:
                continue
            stream[0, i] = slot.following
            stream[1 : count + 1, i] = slot.order.take(count * size).reshape(count, size)
            slot.following = stream[count, i].copy()
            low, high = np.searchsorted(slot.grid, [slot.step + 1, slot.step + count + 1])
            evaluated[slot.grid[low:high] - slot.step - 1, i] = True
        stops = np.union1d(np.flatnonzero(evaluated.any(axis=1)), [count - 1])
        ends = np.zeros(most, np.int32)
        ends[: len(stops)] = stops + 1
        due = np.zeros((most, len(self._slots)), bool)
        due[: len(stops)] = evaluated[stops]
        orders = [None if slot is None else slot.order for slot in self._slots]
        train, stream = self._feed.window(stream, orders, count)
        if self._places is not None:
            stream = stream[..., self._places.position.ravel()]
        return Chunk(train, stream, ends, due, np.any(due, axis=1), len(stops), count)

    def _advance(self, most: int = MAX_CHUNK_STEPS) -> int:
        """Make some steps of every slot; collect evaluations and norms. Returns trial-steps."""
        began = time.perf_counter()
        self._follow()
        chunk = self._inputs(min(most, self._length()))
        advance = self._loop if self._mode == "loop" else self._scan
        evaluations, norms, diverged = advance(chunk)
        seconds = time.perf_counter() - began
        # The first chunk compiles; a guess from it would make chunks too short for ever.
        rate, known = seconds / chunk.steps, self._seconds_per_step
        self._seconds_per_step = rate if known is None else min(rate, 2 * known)
        running = [slot for slot in self._slots if slot is not None]
        for i, slot in enumerate(self._slots):
            if slot is not None:
                collect(slot, i, chunk, evaluations, norms, int(diverged[i]))
                slot.seconds += seconds / len(running)
                slot.ran += seconds
        self._seconds += seconds
        return chunk.steps * len(running)

    def lowered(self, trial: Trial, name: Literal["start", "chunk", "step"]) -> jax.stages.Lowered:
        """``start`` or ``chunk`` as this pack runs it, or ``step``, its step on one device; no array
        of the pack is made: what `experiments.planning.feasibility` predicts from."""
        program, values, slots = self._program, self._values(trial), len(self._slots)
        states, pack = jax.eval_shape(lambda: program.empty(slots, values))
        if name == "start":
            fresh = np.int32(0), np.zeros((2, 2), np.uint32), values, np.int32(1)
            return program.start.lower(states, pack, *fresh, program.train)
        if name == "step":
            indices = np.zeros((slots, self._part.batch_size), np.int32)
            step = program.at(ONE_DEVICE).single_step
            return step.lower(states, pack, indices, None, program.train)
        with self._open:
            chunk = self._inputs(1)
        return program.chunk.lower(states, pack, *self._arguments(chunk))

    def _arguments(self, chunk: Chunk) -> tuple[Any, ...]:
        """What `Program.chunk` takes beside the state."""
        program = self._program
        marks = (chunk.ends, chunk.due, chunk.anywhere, np.int32(chunk.segments))
        return (chunk.stream, self._places, *marks, chunk.train, program.evaluation)

    def _scan(self, chunk: Chunk) -> tuple[Table, Table, np.ndarray]:
        self._states, evaluations, norms = self._program.chunk(
            self._shapes, self._states, self._pack, *self._arguments(chunk)
        )
        return jax.device_get((evaluations, norms, self._states.diverged_at))

    def _loop(self, chunk: Chunk) -> tuple[Table, Table, np.ndarray]:
        program, rows, measured = self._program, [], []
        first = 0
        for j, end in enumerate(chunk.ends[: chunk.segments]):
            for i in range(first, end):
                self._states, norms = program.single_step(
                    self._shapes,
                    self._states,
                    self._pack,
                    chunk.stream[i],
                    self._places,
                    chunk.train,
                )
                measured.append(norms)
            first = end
            if chunk.due[j].any():
                following = chunk.stream[end]
                found = program.evaluate(
                    self._shapes,
                    self._states,
                    self._pack,
                    following,
                    self._places,
                    chunk.train,
                    program.evaluation,
                )
                self._states = program.observe(
                    len(self._slots), self._states, self._pack, chunk.due[j], found
                )
                rows.append((j, found))
        rows, measured, diverged = jax.device_get((rows, measured, self._states.diverged_at))
        evaluations: dict[str, np.ndarray] = {}
        for j, found in rows:
            for name, value in found.items():
                empty = np.zeros((chunk.segments, *value.shape), value.dtype)
                evaluations.setdefault(name, empty)[j] = value
        recorded = program.norms if program.config.record_norms == "every" else ()
        return evaluations, {k: np.stack([m[k] for m in measured]) for k in recorded}, diverged

    def _finished(self) -> Iterator[TrialResult]:
        """Free the slots whose trial has ended; yields their results."""
        if self._states is None:
            return
        diverged = np.asarray(self._states.diverged_at)
        clips = self._states.clips
        clipped = np.asarray(clips.steps) if clips else None
        for i, slot in enumerate(self._slots):
            if slot is None:
                continue
            infeasible = bool(diverged[i])
            if not infeasible and slot.step < slot.trial.train_steps:
                continue
            status = Status.INFEASIBLE if infeasible else Status.COMPLETE
            yield TrialResult(
                slot.trial,
                status,
                slot.step,
                joined(slot.evaluations, slot.step, infeasible),
                joined(slot.norms, slot.step, False) if slot.norms else None,
                slot.seconds,
                self._plan,
                clipped_share=None
                if clipped is None
                else min(int(clipped[i]), slot.step) / slot.step,
            )
            self._slots[i] = None
