"""A population: the trials of one batch size, trained in the slots of a pack.

A slot whose trial has ended takes the next one without recompiling; every slot has its own step
counter, schedule, example order and evaluation grid. What a trial returns does not depend on its
slot, its neighbours or when it started.

While the device computes one chunk of steps, the host prepares and dispatches the next and then
fetches the results of the first: what a chunk is given depends on counters alone, and a trial that
has diverged, or stops at the goal, is found one chunk later, its further steps thrown away.

Trials whose batch grows run as cohorts: they start together, so that all slots are at one step
and one batch size, and free slots wait for the next cohort. One program is compiled for each
distinct batch size; the rate's multiplier of a phase is data.
"""

from __future__ import annotations

import collections
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Sequence

import jax
import numpy as np

from experiments.runtime import hosts
from experiments.spec.trial import Status, Trial, TrialResult, evaluation_steps
from experiments.training.chunks import ChunkSource
from experiments.training.device_pack import DevicePack
from experiments.training.feed import MAX_CHUNK_STEPS
from experiments.training.layout import SCAN, Execution, Layout
from experiments.training.program import Program
from experiments.training.resume import Checkpoints
from experiments.training.saving import SavedTrials, Saving
from experiments.training.slots import Chunk, End, Flight, Slot, clipped_by, joined, keep
from experiments.training.state import TrainState
from schedules.batch_size import Phase, constant, stretches

Emit = Callable[[TrialResult], None]


def _must_take_turns(layout: Layout) -> bool:
    """Tell whether two programs under way may wait for each other: where they exchange sums, on
    simulated devices and between processes that meet on a CPU."""
    exchanging = layout.how in ("pmap", "shard_map") or hosts.several()
    return jax.default_backend() == "cpu" and exchanging


class Population:
    """The slots of one pack.

    Args:
      program: the compiled programs, on any layout.
      batch_size: B, of the first step.
      execution: mode, slots and layout.
      grid: train_steps -> the steps after which a trial is evaluated, ascending.
      plan: index recorded with every result.
      checkpoints: where long trials are saved and go on; None: nowhere.
      held: key -> trial that was put aside, shared by all who may take it up; None: none pauses.
      phases: of the batch size (schedules/batch_size.py); none: ``batch_size`` throughout.
      begin: the first state of a trial that starts, from the one that it would have; None: that.
      lookahead: dispatch a chunk before the results of the one before are fetched.
    """

    def __init__(
        self,
        program: Program,
        batch_size: int,
        execution: Execution = SCAN,
        *,
        grid: Callable[[int], Sequence[int]] = evaluation_steps,
        plan: int = 0,
        checkpoints: Checkpoints | None = None,
        held: SavedTrials | None = None,
        phases: Sequence[Phase] = (),
        begin: Callable[[TrainState], TrainState] | None = None,
        lookahead: bool = True,
    ):
        self._program = program = program.at(execution.layout)
        self._execution = execution
        parts = stretches(phases or constant(batch_size))
        self._source = ChunkSource(program, parts, execution.slots)
        self._grid, self._plan, self._begin = grid, plan, begin
        # The trials of a cohort start again together: none goes on alone.
        alone = not self._source.grows or execution.slots == 1
        self._saving = Saving(checkpoints if alone else None, execution, program, held)
        self._slots: list[Slot | None] = [None] * execution.slots
        self._pack: DevicePack | None = None
        self._flights: collections.deque[Flight] = collections.deque()  # at most two
        self._fetched = 0.0  # when results were last fetched
        self._lookahead = lookahead and not _must_take_turns(execution.layout)

    def run(
        self,
        next_trial: Callable[[], Trial | None],
        emit: Emit,
        advanced: Callable[[int], bool] = lambda steps: True,
    ) -> None:
        """Train until ``next_trial`` returns None and every slot is free.

        ``emit`` takes each result as it ends. ``advanced(steps)``, called after each chunk with its
        trial-steps, ends the run by returning False: what is under way is waited for and counted.
        """
        with contextlib.closing(self._source):
            going = True
            while going:
                self._fill(next_trial, emit)
                if dispatched := bool(self._running):
                    self._flights.append(self._dispatch())
                if not self._flights:
                    return
                # One chunk stays under way, unless the next is to begin from a saved state.
                ahead = int(dispatched and self._lookahead and not self._may_save())
                while len(self._flights) > (ahead if going else 0):
                    steps = self._flights[0].trial_steps
                    for result in self._fetch():
                        emit(result)
                    going = advanced(steps) and going
                if not self._flights:
                    self.save(self._saving.due)

    @property
    def _running(self) -> list[tuple[int, Slot]]:
        """(slot, its trial), of slots that are not idle."""
        return [(i, slot) for i, slot in enumerate(self._slots) if slot is not None]

    @property
    def trials(self) -> list[Trial]:
        """The trials that were begun and have not returned."""
        return [slot.trial for slot in _unfinished(self._flights, self._running)]

    @property
    def steps_under_way(self) -> int:
        """Steps of the trials that were begun and have not returned."""
        return sum(slot.step for slot in _unfinished(self._flights, self._running))

    def train_to(self, trial: Trial, step: int) -> tuple[TrainState, dict[str, np.ndarray]]:
        """(state, evaluations) of ``trial`` after ``step`` steps, as when it ran its whole length.

        Begins at its newest checkpoint that is not past ``step``. The state has no axis of slots.
        """
        with contextlib.closing(self._source):
            slot = self._start(0, trial, step)
            while slot.step < step:
                self._flights.append(self._dispatch(step - slot.step))
                self._fetch()
        assert self._pack is not None
        return self._pack.state(0), joined(slot.evaluations, step, False)

    # Trials in slots.

    def _fill(self, next_trial: Callable[[], Trial | None], emit: Emit) -> None:
        """Start trials in free slots, unless a cohort is under way."""
        if self._source.grows and self._running:
            return
        for i in range(len(self._slots)):
            while self._slots[i] is None and (trial := next_trial()) is not None:
                slot = self._start(i, trial)
                self._saving.begin(trial, slot.step)
                if self._pack is not None and slot.pauses_here:  # saved there, before a kill
                    self._pack.put_aside([(i, slot, slot.step)])
                    emit(self._ended(i, slot, End(slot.step, Status.STOPPED, "pruned"), None))

    def _ended(self, i: int, slot: Slot, end: End, clipped: int | None) -> TrialResult:
        """Free the slot of a trial that has ended, and keep one that is put aside."""
        if self._slots[i] is slot:
            self._retire(i)
        if end.reason == "pruned":
            self._saving.hold(slot)
        return slot.result(end, self._plan, clipped)

    def _start(self, i: int, trial: Trial, most: float = math.inf) -> Slot:
        """Put ``trial`` into slot ``i``, where it was saved or else from its first step."""
        program, grid = self._program, np.asarray(self._grid(trial.train_steps))
        slot = self._slots[i] = self._source.begin(trial, grid)
        values = self._source.values(trial.hyperparameters)
        if self._pack is None:
            self._pack = DevicePack(program, self._execution, self._source.part.batch_size, values)
        if trial.pauses:  # one that was saved later goes on from there once it may
            most = min(most, trial.most_steps)
        state = self._saving.restore(slot, trial, lambda: program.state_shapes(values), most)
        if state is None:
            self._pack.start(i, trial, values, self._begin)
        else:
            self._pack.put(i, state, values)
        return slot

    def _retire(self, i: int) -> None:
        """Free slot ``i``: all steps of its trial are under way, or it has ended."""
        self._slots[i] = None

    # Checkpoints.

    def save(self, wanted: Callable[[Slot], bool] = lambda slot: slot.step > 0) -> None:
        """Save the ``wanted`` running trials (by default all), where that has not been done."""
        assert not self._flights, "the tables of the trials are behind their states"
        if self._pack is not None:
            self._saving.save(self._slots, self._pack.states, wanted)

    def _may_save(self) -> bool:
        """Tell whether a trial may have to be saved at the end of the chunk under way."""
        running = [slot for _, slot in self._running]
        return self._saving.possible(running, time.perf_counter() - self._flights[0].began)

    # Chunks.

    def _length(self) -> int:
        """Steps of the next chunk: by the pace, never past a trial's end or a change of the batch
        size, nor past the next evaluation of a trial that may be saved there."""
        running = [slot for _, slot in self._running]
        borders = [s.next_evaluation - s.step for s in running if self._saving.is_long(s)]
        return hosts.agreed_number(min([self._source.length(running), *borders]))

    def _inputs(self, count: int) -> Chunk:
        """Make the inputs of the next ``count`` steps."""
        assert self._pack is not None
        return self._source.chunk(self._slots, count, self._pack.evaluation_batch)

    def _dispatch(self, most: int = MAX_CHUNK_STEPS) -> Flight:
        """Begin some steps of every slot; free the slots whose trials will have ended."""
        began = time.perf_counter()
        assert self._pack is not None
        running = [(i, slot, slot.step) for i, slot in self._running]
        self._pack.pack = self._source.follow([slot for _, slot, _ in running], self._pack.pack)
        chunk = self._inputs(min(most, self._length()))
        results = self._pack.dispatch(chunk)
        for _, slot, _ in running:
            slot.step += chunk.steps
        self._pack.put_aside(running)
        for i, slot, _ in running:
            if slot.step == slot.trial.most_steps:
                self._retire(i)
        return Flight(chunk, running, results, began)

    def _fetch(self) -> list[TrialResult]:
        """Wait for the oldest chunk and keep what it measured; return the trials that ended."""
        flight = self._flights[0]
        assert self._pack is not None
        results = self._pack.fetch(flight.chunk, flight.results)
        now = time.perf_counter()
        seconds, self._fetched = now - max(flight.began, self._fetched), now
        self._source.pace.observe(flight.chunk.steps, seconds)
        self._saving.trained(seconds)
        self._flights.popleft()
        return [
            self._ended(i, slot, end, clipped_by(i, results))
            for i, slot, end in keep(flight, results, seconds, self._program.config.goal)
        ]


def _unfinished(flights: Iterable[Flight], running: Sequence[tuple[int, Slot]]) -> list[Slot]:
    """The trials whose results are not known, in a slot or under way."""
    under_way = [slot for flight in flights for _, slot, _ in flight.running]
    slots = [*under_way, *(slot for _, slot in running)]
    return [slot for slot in dict.fromkeys(slots) if not slot.ended]


def last_state(population: Population) -> TrainState:
    """The state that the newest trial of the first slot has come to, once it has ended."""
    assert population._pack is not None and not population._flights, "its steps are made"
    return population._pack.state(0)


def end_state(
    population: Population, trial: Trial, goes_on: Callable[[int], bool]
) -> TrainState | None:
    """The state of a trial, trained alone to its end or to where it is put aside.

    Args:
      population: new.
      trial: begins at its first step.
      goes_on: called with the steps of each chunk; False ends training.

    Returns:
      None where it diverged, or was ended.
    """
    pending = [trial]
    found: list[TrialResult] = []
    population.run(lambda: pending.pop() if pending else None, found.append, goes_on)
    if not found or found[0].status == Status.INFEASIBLE:
        return None
    return last_state(population)


def states_at(
    population: Population, trials: Sequence[Trial], steps: Sequence[int]
) -> list[TrainState]:
    """The states of trials side by side after each of these steps, on the host [slots, ...].

    Args:
      population: new, of as many slots.
      trials: one a slot; all begin at their first step.
      steps: ascending, none beyond a trial's length.

    A trial that diverges is left where it was; its state says so.
    """
    found = []
    with contextlib.closing(population._source):
        for i, trial in enumerate(trials):
            population._start(i, trial, 0)
        made = 0
        for step in steps:
            while made < step and population._running:
                population._flights.append(population._dispatch(step - made))
                made += population._flights[-1].chunk.steps
                population._fetch()
            assert population._pack is not None
            found.append(jax.device_get(population._pack.states))
    return found
