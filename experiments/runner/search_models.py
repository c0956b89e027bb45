"""A search's trials as Flax modules that the engine trains: one program for each distinct module.

Hyperparameters that the optimizer or the schedule know by name are theirs, and data: a trial that
differs in them alone compiles nothing. All of them are given to ``build``. Every trial runs by
itself, scanned, so that its bits do not depend on what runs beside it; it is evaluated at whole
epochs.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.runner.search_inherited import Heirs
from experiments.runner.search_objectives import Origin, TrialJob
from experiments.runtime.stopping import OutOfTime, Stop
from experiments.spec.errors import in_one_line
from experiments.spec.space import Value
from experiments.spec.trial import Precision, Status, Trial, TrialConfig, TrialResult
from experiments.training.feed import ResidentData
from experiments.training.layout import SCAN, Execution
from experiments.training.population import Population, end_state, last_state
from experiments.training.program import Program, drawing_from
from experiments.training.resume import Checkpoints
from experiments.training.saving import SavedTrials
from experiments.training.state import TrainState
from optimizers import OPTIMIZERS
from schedules import SCHEDULES
from workloads.base import Goal, Workload
from workloads.models.users import number_of
from workloads.registry import Hyperparameter

DIVERGENCE_FACTOR = 1e4
TRAIN_EVALUATION_EXAMPLES = 256


def rows(optimizer: str, schedule: str) -> dict[str, Hyperparameter]:
    """The hyperparameters that the engine reads, by name."""
    found = (*OPTIMIZERS[optimizer].hyperparameters, *SCHEDULES[schedule].hyperparameters)
    return {row.name: row for row in found}


def failed(trial: Trial, error: BaseException) -> TrialResult:
    """The result of a trial that raised."""
    return TrialResult(trial, Status.INCOMPLETE, 0, {}, message=in_one_line(error))


def steps_of_epochs(epochs: int, examples: int, batch_size: int) -> int:
    """The fewest steps that consume so many epochs."""
    return math.ceil(epochs * examples / batch_size)


@dataclasses.dataclass(frozen=True)
class SearchTask:
    """The part that all trials of a search share.

    Attributes:
      workload: dataset, losses, preprocessing, metrics; its model is replaced.
      goal: the metric that decides, on its split.
      optimizer, schedule: by name, of trials that choose none.
      fixed: hyperparameters that are not searched.
      data: on the device.
      epochs: of a trial that trains to its end.
      weights: values of a trial -> further numbers that its module reads as they run.
    """

    workload: Workload
    goal: Goal
    optimizer: str
    schedule: str
    fixed: Mapping[str, float]
    data: ResidentData
    epochs: int
    weights: Callable[[Mapping[str, Value]], Mapping[str, float]] | None = None

    def grid(self, batch_size: int) -> list[int]:
        """Steps after each epoch."""
        examples = self.data.examples
        return [steps_of_epochs(e, examples, batch_size) for e in range(1, self.epochs + 1)]

    def parts(self, values: Mapping[str, Value]) -> tuple[str, str]:
        """(optimizer, schedule) of a trial."""
        optimizer = values.get("optimizer", self.optimizer)
        return str(optimizer), str(values.get("schedule", self.schedule))

    def program(self, module: Any, values: Mapping[str, Value]) -> Program:
        """The programs of a linen module with a trial's parts, compiled on first use."""
        workload = dataclasses.replace(
            self.workload,
            model="workloads.models.users:numbered",
            model_options={"number": number_of(module)},
        )
        config = TrialConfig(workload, *self.parts(values), Precision(), "off", goal=self.goal)
        return Program(config, self.data, DIVERGENCE_FACTOR)

    def numbers(self, values: Mapping[str, Value]) -> dict[str, float]:
        """The hyperparameters of a trial that the engine reads; those that bear the name of one of
        its parts go before the plain ones."""
        parts = self.parts(values)
        defaults = {name: row.default for name, row in rows(*parts).items()}
        known = {**defaults, **self.workload.hyperparameters, **self.fixed}
        for prefix in ("", *(f"{part}_" for part in parts)):
            own = {name: values[prefix + name] for name in known if prefix + name in values}
            known |= own  # type: ignore[arg-type]
        return {name: float(value) for name, value in known.items() if value is not None}

    def all_numbers(self, values: Mapping[str, Value]) -> dict[str, float]:
        """`numbers`, and those that the module of a trial reads."""
        return {**self.numbers(values), **(self.weights(values) if self.weights else {})}


class ModelTrainer:
    """Trains what ``build`` returns.

    Args:
      build: hyperparameters -> a linen module.
      task: what all trials share.
      folder: of the record, where long trials are saved.
      seconds: a trial that has run so long is saved, then every so many seconds.
      stop: what ends the search.
      warn: takes one line where a checkpoint cannot be used.
      heirs: begins trials with the weights of others, in a search that has such.
    """

    def __init__(
        self,
        build: Callable[[dict[str, Value]], Any],
        task: SearchTask,
        *,
        folder: Path,
        seconds: float,
        stop: Stop,
        warn: Callable[[str], None],
        heirs: Heirs | None = None,
    ):
        self._build, self._task, self._stop, self._heirs = build, task, stop, heirs
        self._checkpoints = Checkpoints(folder, task.goal, seconds, warn)
        self._programs: dict[tuple[int, str, str], Program] = {}
        self._lock = threading.Lock()
        self._held: SavedTrials = {}

    def train(self, job: TrialJob) -> TrialResult:
        """One trial up to whole epochs. An exception of the user's makes it INCOMPLETE."""
        trial = job.trial
        found: list[TrialResult] = []
        try:
            pending = [self.engine_trial(trial, job.values, self.pause(job))]
            population = self.population(trial, job.values, origin=job.origin)
            population.run(lambda: pending.pop() if pending else None, found.append, self._goes_on)
            if not found and self._stop.asked is not OutOfTime:  # after which nothing goes on
                population.save()
            if self._heirs is not None and found and found[0].status == Status.COMPLETE:
                self._heirs.keep(trial, last_state(population))
        except Exception as error:  # noqa: BLE001 (a user's model may raise anything)
            return failed(trial, error)
        if not found:
            self._stop.check()  # which ended it
        return dataclasses.replace(found[0], trial=trial)

    @property
    def held(self) -> SavedTrials:
        """Trials that were put aside, by key."""
        return self._held

    def ended(self, result: TrialResult) -> None:
        """Forget what was put aside of a trial that is recorded."""
        self._held.pop(result.trial.key, None)
        self._checkpoints.end(result.trial, result.status)

    def best_state(self, job: TrialJob, step: int) -> Any:
        """(module, `TrainState` of a trial after ``step`` steps), trained again to the bit."""
        origin = Origin(job.trial, job.values, job.origin)
        return self._build(dict(job.values)), self._state(origin, step)

    def refitted(
        self, job: TrialJob, step: int, goes_on: Callable[[int], bool]
    ) -> tuple[Any, Any] | None:
        """(params, batch statistics) of a trial that begins with new weights, on training and spare
        examples together, after as many epochs of its schedule as ``step`` steps of the search are;
        None where it diverged, or ``goes_on``, called with the steps of each chunk, ended it.

        Of n examples in all, the schedule has ceil(R n / B) steps, and ceil(epochs n / B) are made.
        ValueError where there are no spare examples.
        """
        task = dataclasses.replace(self._task, data=self._task.data.with_spare())
        before, steps = (one.grid(job.trial.batch_size) for one in (self._task, task))
        end, length = steps[before.index(step)], steps[-1]
        trial = self.engine_trial(job.trial, job.values, end if end < length else None)
        program = drawing_from(self._program(job.values), task.data)
        population = Population(program, trial.batch_size, grid=lambda length: [end])
        trial = dataclasses.replace(trial, train_steps=length, patience=None)
        state = end_state(population, trial, goes_on)
        return None if state is None else (state.params, state.model_state)

    def _state(self, of: Origin, step: int) -> TrainState:
        population = self.population(of.trial, of.values, origin=of.before)
        return population.train_to(self.engine_trial(of.trial, of.values, None), step)[0]

    def _goes_on(self, steps: int) -> bool:
        del steps
        return self._stop.asked is None

    def pause(self, job: TrialJob) -> int | None:
        """The step at which a job puts its trial aside; None at its end."""
        full = job.target == self._task.epochs
        return None if full else self._task.grid(job.trial.batch_size)[job.target - 1]

    def engine_trial(self, trial: Trial, values: Mapping[str, Value], pause: int | None) -> Trial:
        """A trial as the engine takes it."""
        patience = trial.patience
        if patience is not None:
            examples = self._task.data.examples
            # Evaluations lie whole epochs apart, up to a step of rounding: exact where an epoch has
            # two steps or more, else a trial may end an epoch early.
            patience = math.floor(patience * examples / trial.batch_size)
        return dataclasses.replace(
            trial, hyperparameters=self._task.all_numbers(values), pause=pause, patience=patience
        )

    def population(
        self,
        trial: Trial,
        values: Mapping[str, Value],
        execution: Execution = SCAN,
        *,
        origin: Origin | None = None,
    ) -> Population:
        """Slots for trials of this one's module and batch size, which begin with ``origin``."""
        task = self._task
        return Population(
            self._program(values),
            trial.batch_size,
            execution,
            grid=lambda steps: [s for s in task.grid(trial.batch_size) if s <= steps],
            checkpoints=self._checkpoints,
            held=self._held,
            begin=None if origin is None else self._begin(trial, values, origin),
        )

    def _program(self, values: Mapping[str, Value]) -> Program:
        """The programs of a trial's module and parts, made once."""
        module = self._build(dict(values))
        with self._lock:
            key = (number_of(module), *self._task.parts(values))
            if key not in self._programs:
                self._programs[key] = self._task.program(module, values)
            return self._programs[key]

    def _begin(
        self, trial: Trial, values: Mapping[str, Value], origin: Origin
    ) -> Callable[[TrainState], TrainState]:
        """The first state of a trial that begins with another's weights."""
        heirs, numbers = self._heirs, self._task.numbers(values)
        assert heirs is not None, "only a search that inherits has origins"

        def begun(fresh: TrainState) -> TrainState:
            last = heirs.last(origin, lambda of: self._state(of, of.trial.train_steps))
            return heirs.grown(fresh, Origin(trial, values, origin), last, numbers)

        return begun
