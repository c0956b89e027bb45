"""A search's trials as a user's function trains them: what it is given, what it may report."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from experiments.runtime.stopping import Stop
from experiments.spec.errors import in_one_line
from experiments.spec.space import Value
from experiments.spec.trial import Status, Trial, TrialResult, out_of_patience

TRIALS_FOLDER = "trials"


@dataclasses.dataclass(frozen=True)
class Origin:
    """A trial whose last state another begins with.

    Attributes:
      trial, values: as of a `TrialJob`.
      before: what it began with itself; None: new weights.
    """

    trial: Trial
    values: Mapping[str, Value]
    before: Origin | None = None


@dataclasses.dataclass(frozen=True)
class TrialJob:
    """A trial that is to train further.

    Attributes:
      trial: as it is recorded.
      values: its hyperparameters as the user's function takes them.
      target: resource up to which it trains, in all.
      steps, values_so_far: what an earlier job reported: resources [k], values [k].
      origin: the trial whose weights it begins with; None: new ones.
    """

    trial: Trial
    values: Mapping[str, Value]
    target: int
    steps: np.ndarray
    values_so_far: np.ndarray
    origin: Origin | None = None


class Trainer(Protocol):
    """Trains trials up to a resource; thread-safe."""

    def train(self, job: TrialJob) -> TrialResult:
        """All that the trial has measured by then, from its start."""
        ...


class Report:
    """The function that an objective reports to: ``report(resource, value)``.

    Attributes:
      last: the resource up to which an earlier call has trained this trial, 0 at first. An
        objective that saved its state in ``folder`` goes on from there; one that begins anew
        reports again, which changes nothing.
      folder: a folder of this trial's own, made when it is first asked for. It stays until the
        trial has ended.
    """

    def __init__(self, job: TrialJob, folder: Path, *, sign: int, stop: Stop):
        self._job, self._folder, self._stop, self._sign = job, folder, stop, sign
        self.values: dict[int, float] = dict(
            zip(map(int, job.steps), map(float, job.values_so_far), strict=True)
        )
        self.last = max(self.values, default=0)

    @property
    def folder(self) -> Path:
        """A folder in which this trial may keep its state."""
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder

    @property
    def out_of_patience(self) -> bool:
        """Tell whether the trial has ended for want of an improvement."""
        trial = self._job.trial
        if trial.patience is None:
            return False
        found = sorted(self.values.items())
        return out_of_patience(found, trial.patience, trial.min_delta, self._sign) is not None

    @property
    def diverged(self) -> bool:
        """Tell whether a value was not finite."""
        return not all(map(math.isfinite, self.values.values()))

    def __call__(self, resource: int, value: float) -> bool:
        """Take the value at a resource (an epoch, counted from 1); whether to go on.

        Raises:
          ValueError: a resource that is no whole number from 1 on, or a value that is no number.
          KeyboardInterrupt: the search was asked to end, and this value does not end the trial.
        """
        if isinstance(resource, bool) or not isinstance(resource, (int, np.integer)):
            raise ValueError(  # noqa: TRY004 (a user's input)
                f"report takes a whole number and a value, got {resource!r}"
            )
        if resource < 1:
            raise ValueError(f"report counts from 1, got {resource!r}")
        counts = self.last < resource <= self._job.target and not self.out_of_patience
        if counts:
            self.values[int(resource)] = float(value)
        over = resource >= self._job.target or self.out_of_patience or self.diverged
        if not (counts and over):
            self._stop.check()
        return not over


Objective = Callable[[dict[str, Value], int, Report], float | None]
"""(hyperparameters, budget in all, report) -> the value at the budget, or None where all was
reported."""


@dataclasses.dataclass(frozen=True)
class ObjectiveTrainer:
    """Calls a user's function.

    Attributes:
      objective: the function.
      column: of the evaluations that its values are recorded in.
      sign: 1 where a lower value is better, -1 where a higher one is.
      folder: of the record.
      stop: what ends the search.
    """

    objective: Objective
    column: str
    sign: int
    folder: Path
    stop: Stop

    def train(self, job: TrialJob) -> TrialResult:
        """One call. An exception of the user's makes the trial INCOMPLETE."""
        trial = job.trial
        folder = self.folder / TRIALS_FOLDER / str(trial.index)
        report = Report(job, folder, sign=self.sign, stop=self.stop)
        message, began = "", time.perf_counter()
        try:
            value = self.objective(dict(job.values), job.target, report)
            if value is not None and not (report.out_of_patience or report.diverged):
                report.values[job.target] = float(value)
            if not report.values:
                raise ValueError("the objective neither returned a value nor reported one")
        except Exception as error:  # noqa: BLE001 (a user's function may raise anything)
            message = in_one_line(error)
        result = self._result(trial, report, job.target, message)
        return dataclasses.replace(result, seconds=time.perf_counter() - began)

    def _result(self, trial: Trial, report: Report, target: int, message: str) -> TrialResult:
        found = sorted(report.values.items())
        if report.diverged:  # what came before it stays, as of a trial that diverges on a device
            found = [pair for pair in found if math.isfinite(pair[1])]
        steps = np.array([resource for resource, _ in found], np.int64)
        values = np.array([value for _, value in found], float)
        reached = int(steps[-1]) if len(steps) else 0
        status, reason = Status.STOPPED, "pruned"
        if message:
            status, reason = Status.INCOMPLETE, ""
        elif report.diverged:
            status, reason = Status.INFEASIBLE, ""
            reached = next(r for r, v in sorted(report.values.items()) if not math.isfinite(v))
        elif report.out_of_patience:
            reason = "patience"
        elif target == trial.train_steps:
            status, reason, reached = Status.COMPLETE, "", target
        else:
            reached = target
        table = {"step": steps, "examples": steps, self.column: values}
        return TrialResult(trial, status, reached, table, message=message, reason=reason)  # type: ignore[arg-type]
