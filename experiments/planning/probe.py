"""A plan by measurement.

Dispatch, memory traffic and arithmetic weigh differently at every batch size and on every
backend, so nothing is assumed: a probe runs the candidate executions of the smallest, the largest
and the middle batch size for a moment, as many workers at a time as the study will use, and
interpolates between them. It costs at most a stated share of the planned time.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent import futures
from typing import Literal

import jax
import numpy as np

from experiments.planning.execution import (
    AUTO,
    ExecutionPlan,
    ExecutionRequest,
    default_workers,
    device_name,
)
from experiments.planning.feasibility import step_flops
from experiments.runtime.memory import out_of_memory
from experiments.runtime.platform import cores
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import RecordNorms, Trial, TrialResult
from experiments.training.layout import Execution
from experiments.training.population import Population
from experiments.training.program import Program

PROBE_SHARE = 0.05
PROBE_SECONDS = 0.15
FIRST_MEASUREMENT_SECONDS = 1.0  # mostly compilation
NORMS_MAY_COST = 1.05


class ProbeError(Exception):
    """A trial of the probe raised, or ended before anything was measured."""


@dataclasses.dataclass(frozen=True)
class Workplan:
    """The work that a plan is made for.

    Attributes:
      steps: batch size -> trial-steps the study will make there.
      evaluations: evaluations per step of a trial, by batch size.
      make_program: record_norms -> programs.
      make_trial: (batch size, index) -> a trial to measure with; its results are thrown away.
    """

    steps: Mapping[int, int]
    evaluations: Mapping[int, float]
    make_program: Callable[[RecordNorms], Program]
    make_trial: Callable[[int, int], Trial]


def guessed_seconds(flops: float) -> float:
    """Guess the time of a step before any measurement: dispatch overhead plus operations at the
    assumed peak rate.

    Few devices of the kind beat that rate. Too low a guess costs a probe that is not made; too
    high a guess, a probe that costs more than its share.
    """
    rate = 1e11 * cores() if jax.default_backend() == "cpu" else 1e14
    return 2e-5 + flops / rate


def make_plan(
    work: Workplan,
    request: ExecutionRequest = AUTO,
    record_norms: RecordNorms | Literal["auto"] = "auto",
) -> ExecutionPlan:
    """Choose how every batch size is executed: as asked, else by a probe, else by default.

    Args:
      work: what the plan is for.
      request: what was asked for.
      record_norms: "auto" records every step's norms where that costs at most 5 %, else the norms
        at evaluations where these are rare enough to cost that little, else none.
    """
    probe = _Probe(work, request.workers or default_workers())
    chosen, norms, reason = _choose(work, probe, request, record_norms)
    program = work.make_program(norms)
    plan = probe.plan(chosen, norms, request, reason)
    program.keep({execution.layout for execution in chosen.values()})
    return dataclasses.replace(
        plan, executions={b: _planned(work, program, b, e) for b, e in chosen.items()}
    )


def _planned(work: Workplan, program: Program, batch_size: int, execution: Execution) -> Execution:
    try:
        trial = work.make_trial(batch_size, 0)
        return program.planned(execution, batch_size, trial.hyperparameters)
    except Exception:  # noqa: BLE001 (a user's model may raise; training will meet it and say so)
        return execution


Choice = tuple[Mapping[int, Execution], RecordNorms, str]
"""(batch size -> execution, the norms to record, why)."""


def _choose(
    work: Workplan,
    probe: _Probe,
    request: ExecutionRequest,
    record_norms: RecordNorms | Literal["auto"],
) -> Choice:
    rare = max(work.evaluations.values()) <= NORMS_MAY_COST - 1
    cheap: RecordNorms = "evaluations" if rare else "off"
    norms = cheap if record_norms == "auto" else record_norms
    program = work.make_program(norms)
    allowed = request.candidates(program.divisible)
    first = dict.fromkeys(work.steps, allowed[0])
    if len(allowed) == 1:
        return first, norms, "as asked"
    batch_sizes = sorted(work.steps)
    spots = list(
        dict.fromkeys([batch_sizes[0], batch_sizes[-1], batch_sizes[len(batch_sizes) // 2]])
    )
    probe.examine(program, batch_sizes[-1])
    try:
        for candidate in allowed:
            for batch_size in spots:
                if probe.affordable and probe.may_fit(batch_size, candidate):
                    probe.measure(program, batch_size, candidate)
    except ProbeError as error:  # training will meet it again, and say which trial
        return first, norms, f"default: the probe failed ({error})"
    if not probe.found:
        short = "nothing fits in memory" if probe.full else "the study is too short for a probe"
        return first, norms, f"default: {short}"
    chosen = {
        b: min(
            [e for e in probe.candidates if probe.may_fit(b, e)] or allowed[:1],
            key=lambda e: probe.estimate(b, e),
        )
        for b in batch_sizes
    }
    if record_norms == "auto" and probe.affordable:
        middle = spots[-1]
        seconds = _seconds_per_step(
            work, work.make_program("every"), middle, chosen[middle], probe.workers
        )
        if seconds <= NORMS_MAY_COST * probe.estimate(middle, chosen[middle]):
            norms = "every"
    return chosen, norms, "measured"


@dataclasses.dataclass
class _Probe:
    """The measurements made so far, and whether another is affordable."""

    work: Workplan
    workers: int
    began: float = dataclasses.field(default_factory=lambda: time.perf_counter())
    found: dict[tuple[int, Execution], float] = dataclasses.field(default_factory=dict)
    flops_per_example: float = 5e4  # where the model cannot be examined: a small net's
    full: list[tuple[float, int]] = dataclasses.field(default_factory=list)  # loads too large

    @property
    def spent(self) -> float:
        return time.perf_counter() - self.began

    @property
    def affordable(self) -> bool:
        """Tell whether one more measurement stays within the probe's share of the planned time."""
        one = self.spent / len(self.found) if self.found else FIRST_MEASUREMENT_SECONDS
        return self.spent + one <= PROBE_SHARE * self.planned()

    @property
    def candidates(self) -> list[Execution]:
        """Return the executions measured at any batch size, in the order of measuring."""
        return list(dict.fromkeys(execution for _, execution in self.found))

    def planned(self) -> float:
        """Seconds the study will take by what is known: the best execution at every B."""
        return sum(
            steps * min(self.estimate(b, e) for e in self.candidates or [Execution("scan")])
            for b, steps in self.work.steps.items()
        )

    def measure(self, program: Program, batch_size: int, execution: Execution) -> None:
        """Seconds of one trial-step with every worker busy, if memory allows; compiles first."""
        try:
            self.found[batch_size, execution] = _seconds_per_step(
                self.work, program, batch_size, execution, self.workers
            )
        except ProbeError as error:
            if error.__cause__ is None or not out_of_memory(error.__cause__):
                raise
            self.full.append(execution.load(batch_size))

    def examine(self, program: Program, batch_size: int) -> None:
        """Count the operations of a step, without compiling it."""
        try:
            flops = step_flops(program, self.work.make_trial(batch_size, 0))
        except Exception:  # noqa: BLE001 (a user's model may raise; training will meet it and say so)
            return
        self.flops_per_example = flops / batch_size

    def may_fit(self, batch_size: int, execution: Execution) -> bool:
        """Tell whether no smaller pack has run out of memory."""
        examples, slots = execution.load(batch_size)
        return not any(examples >= b and slots >= n for b, n in self.full)

    def plan(
        self,
        chosen: Mapping[int, Execution],
        norms: RecordNorms,
        request: ExecutionRequest,
        reason: str,
    ) -> ExecutionPlan:
        """The plan of these executions, with what was measured."""
        rows = [
            {"batch_size": b, **e.to_json(), "seconds_per_step": seconds}
            for (b, e), seconds in self.found.items()
        ]
        seconds = {b: self.estimate(b, e) for b, e in chosen.items()}
        spent = self.spent if self.found else 0.0
        name = device_name()
        return ExecutionPlan(
            chosen, seconds, self.workers, norms, str(request), reason, rows, spent, name
        )

    def estimate(self, batch_size: int, execution: Execution) -> float:
        """Seconds of a trial-step, measured or interpolated between measured batch sizes.

        The first candidate is interpolated in log-log; of another the ratio to the first is. With
        nothing measured, a guess that few devices beat: `guessed_seconds`.
        """
        if not self.found:
            return guessed_seconds(batch_size * self.flops_per_example)
        reference = next(iter(self.found))[1]
        known = sorted(b for b, e in self.found if e == execution)
        base = sorted(b for b, e in self.found if e == reference)
        logs = np.log([self.found[b, reference] for b in base])
        at = float(np.interp(math.log(batch_size), np.log(base), logs))
        if batch_size > base[-1]:  # arithmetic-bound: time grows with the batch
            at += math.log(batch_size / base[-1])
        if execution == reference or not known:
            return math.exp(at)
        ratios = [
            math.log(self.found[b, execution]) - float(np.interp(math.log(b), np.log(base), logs))
            for b in known
        ]
        return math.exp(at + float(np.interp(math.log(batch_size), np.log(known), ratios)))


def _seconds_per_step(
    work: Workplan, program: Program, batch_size: int, execution: Execution, workers: int
) -> float:
    """Wall-clock seconds of one trial-step while ``workers`` packs train side by side."""
    steps, seconds = [0] * workers, [0.0] * workers
    together, stopped = threading.Barrier(workers), threading.Event()

    def grid(train_steps: int) -> Sequence[int]:
        # As dense as a trial's own grid is on average; its first steps alone are denser.
        return range(1, train_steps + 1, max(1, round(1 / work.evaluations[batch_size])))

    def train(worker: int) -> None:
        slots = execution.slots
        population = Population(program, batch_size, execution, grid=grid)
        first = worker * slots
        pending = [work.make_trial(batch_size, i) for i in range(first, first + slots)]
        began = 0.0

        def advanced(made: int) -> bool:
            nonlocal began
            if not began:  # the first chunk compiled
                together.wait()
                began = time.perf_counter()
                return not stopped.is_set()
            steps[worker] += made
            seconds[worker] = time.perf_counter() - began
            return seconds[worker] < PROBE_SECONDS and not stopped.is_set()

        try:
            population.run(lambda: pending.pop() if pending else None, _ignore, advanced)
        finally:
            if not seconds[worker]:
                together.abort()  # nobody waits for a pack that will not come

    with futures.ThreadPoolExecutor(workers) as pool:
        try:
            running = [pool.submit(train, worker) for worker in range(workers)]
            futures.wait(running)
        except BaseException:
            stopped.set()
            together.abort()
            raise
    failures = [error for future in running if (error := future.exception())]
    causes = [e for e in failures if not isinstance(e, threading.BrokenBarrierError)]
    if causes:
        full = [error for error in causes if out_of_memory(error)]
        raise ProbeError(repr(causes[0])) from (full or causes)[0]
    if failures or not all(steps):
        raise ProbeError("the probe's trials ended at once")
    return 1.0 / sum(made / spent for made, spent in zip(steps, seconds, strict=True))


def _ignore(result: TrialResult) -> None:
    del result


def probe_trial(study: ResolvedStudy, batch_size: int, index: int) -> Trial:
    """A trial to measure with: a small rate, so that it does not diverge, and no near end."""
    trial = study.trial(batch_size, study.seeds[0], index, dict.fromkeys(study.space, 0.25), "")
    calm = {**trial.hyperparameters, "learning_rate": 1e-6}
    return dataclasses.replace(trial, hyperparameters=calm, train_steps=1_000_000)
