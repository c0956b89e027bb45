"""The only loop with side effects: search asks, training answers, records keep.

    from experiments.run import run_study
    from experiments.studies import get
    folder = run_study(get("quickstart"), "runs/quickstart")

One coordinator (this thread) writes; worker threads train packs of trials. A trial's result does
not depend on the workers' timing, so neither does the record: killed at any moment and started
again, a study repeats nothing that was recorded and ends with the same trials.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

from experiments.records.store import Writer
from experiments.search.search import Search
from experiments.study import RecordNorms, Study, StudyError, evaluation_steps
from experiments.training.compilation import enable_compilation_cache
from experiments.training.environment import environment
from experiments.training.plan import Plan, Workplan, device_name, make_plan
from experiments.training.population import Population
from experiments.training.program import Program, ResidentData
from experiments.trial import Status, Trial, TrialResult
from workloads import datasets

COMMIT_SECONDS = 1.0
FINAL = (Status.COMPLETE, Status.INFEASIBLE)


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a caller may show while a study runs.

    Attributes:
      phase: what happens now, in words.
      complete, infeasible, wanted: trials, over all batch sizes; ``wanted`` COMPLETE ones.
      running: batch sizes being trained.
      share: done part of the work in [0, 1], by time.
      remaining_seconds: estimate, None before there is one.
    """

    phase: str
    complete: int = 0
    infeasible: int = 0
    wanted: int = 0
    running: Sequence[int] = ()
    share: float = 0.0
    remaining_seconds: float | None = None


Observer = Callable[[Progress], None]


def run_study(
    study: Study,
    folder: Path | str,
    *,
    execution: str = "auto",
    data_dir: str | None = None,
    resume: bool = True,
    keep_going: bool = False,
    workers: int | None = None,
    observe: Observer = lambda progress: None,
    warn: Callable[[str], None] = warnings.warn,
) -> Path:
    """Train every trial of ``study`` that ``folder`` does not hold yet.

    Args:
      study: the question.
      folder: its record; made where it does not exist, grown where it holds this study.
      execution: "auto" (by measurement), "loop", "scan" or "packed".
      data_dir: where the dataset's files are, if not in the usual places.
      resume: False refuses a folder that holds records.
      keep_going: after an exception in a trial, record it INCOMPLETE and go on.
      workers: packs trained at a time; default: one a core on a CPU, else one.
      observe: called often with the `Progress`.
      warn: takes one line where the record was begun by another commit of this code.

    Returns:
      The folder.

    Raises:
      RecordError, DataError, StudyError: one clear line; nothing recorded is lost.
      KeyboardInterrupt: after what has finished was recorded.
    """
    folder = Path(folder)
    observe(Progress("loading data"))
    enable_compilation_cache()
    if "float64" in (study.precision.parameters, study.precision.compute):
        jax.config.update("jax_enable_x64", True)
    dataset = datasets.load(study.workload.dataset, data_dir, **study.workload.dataset_options)
    described = dataset.describe()
    checksum = described["checksum"]
    header: dict[str, Any] = {
        "identity": study.identity(checksum),
        "study": study.describe(),
        "dataset": described,
        "hyperparameters": sorted(study.hyperparameters),
        "environment": environment(),
    }
    with Writer.open(folder, header, resume=resume) as writer:
        begun, now = writer.study["environment"]["commit"], header["environment"]["commit"]
        if begun != now:
            warn(f"the record {folder} was begun by commit {begun}, this is {now}")
        searches = _searches(study, checksum, writer)
        if any(search.startable for search in searches):
            data = ResidentData.put(dataset.splits, study.train_evaluation_examples)

            def programs(norms: RecordNorms) -> Program:
                try:
                    return Program(study.config(norms), data, study.divergence_factor)
                except Exception as error:  # (a user's factory may raise anything)
                    raise StudyError(
                        f"workload {study.workload.name} cannot be built: {_in_one_line(error)}"
                    ) from error

            plan, index = _plan(study, writer, searches, programs, execution, workers, observe)
            program = programs(plan.record_norms)
            _Coordinator(study, writer, searches, program, plan, index, keep_going, observe).run()
    return folder


def _searches(study: Study, checksum: str, writer: Writer) -> list[Search]:
    """One search for each batch size and seed, with what is recorded already."""
    searches = {
        (batch_size, seed): Search(study, batch_size, seed, checksum)
        for seed in study.seeds
        for batch_size in study.batch_sizes
    }
    for (batch_size, seed, index), (status, _) in writer.recorded().items():
        if (batch_size, seed) in searches and status in FINAL:
            searches[batch_size, seed].ended[index] = status
    return list(searches.values())


def _plan(
    study: Study,
    writer: Writer,
    searches: Sequence[Search],
    programs: Callable[[RecordNorms], Program],
    execution: str,
    workers: int | None,
    observe: Observer,
) -> tuple[Plan, int]:
    """The newest recorded plan where it still fits, else a new one; with its index."""
    needed = {search.batch_size for search in searches if search.startable}
    recorded = writer.study["plans"]
    if recorded:
        plan = Plan.from_json(recorded[-1])
        asked = execution in ("auto", plan.request)
        if asked and plan.device == device_name() and needed <= plan.executions.keys():
            return plan, len(recorded) - 1
    observe(Progress("measuring how to run the trials"))
    steps: dict[int, int] = {}
    for search in searches:
        steps[search.batch_size] = steps.get(search.batch_size, 0) + search.remaining_steps
    spacing = study.evaluation_spacing
    work = Workplan(
        steps={b: steps[b] for b in sorted(needed)},
        evaluations={
            b: len(evaluation_steps(study.length(b), spacing)) / study.length(b) for b in needed
        },
        make_program=programs,
        make_trial=lambda batch_size, index: _probe_trial(study, batch_size, index),
    )
    plan = make_plan(work, execution, study.record_norms, workers)
    return plan, writer.add_plan(plan.to_json())


def _probe_trial(study: Study, batch_size: int, index: int) -> Trial:
    """A trial to measure with: a small rate, so that it does not diverge, and no near end."""
    assert study.space is not None
    trial = study.trial(batch_size, study.seeds[0], index, dict.fromkeys(study.space, 0.25), "")
    calm = {**trial.hyperparameters, "learning_rate": 1e-6}
    return dataclasses.replace(trial, hyperparameters=calm, train_steps=1_000_000)


def _in_one_line(error: Exception) -> str:
    """Type and first line of an exception in a user's code."""
    first_line = (str(error).strip().splitlines() or ["no message"])[0]
    return f"{type(error).__name__}: {first_line}"


class _Coordinator:
    """Workers train, this thread records; both meet in ``_searches`` under one lock."""

    def __init__(
        self,
        study: Study,
        writer: Writer,
        searches: Sequence[Search],
        program: Program,
        plan: Plan,
        plan_index: int,
        keep_going: bool,
        observe: Observer,
    ):
        self._study = study
        self._writer = writer
        self._searches = searches
        self._program = program
        self._plan = plan
        self._plan_index = plan_index
        self._keep_going = keep_going
        self._observe = observe
        self._changed = threading.Condition()
        self._results: queue.SimpleQueue[TrialResult] = queue.SimpleQueue()
        self._stopped = False
        self._failure: str | None = None
        self._made_seconds = 0.0

    def run(self) -> None:
        """Train all; on any way out but a failing disk, what has finished is recorded."""
        threads = [
            threading.Thread(target=self._work, name=f"trainer-{i}", daemon=True)
            for i in range(self._plan.workers)
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        try:
            try:
                self._record_while(threads, began)
            finally:
                self._stop(threads)
        except KeyboardInterrupt:
            self._commit()
            raise
        self._commit()
        self._observe(self._progress(began))
        if self._failure:
            raise StudyError(self._failure)

    def _record_while(self, threads: Sequence[threading.Thread], began: float) -> None:
        committed = began
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.05)
            if time.perf_counter() - committed > COMMIT_SECONDS:
                self._commit()
                committed = time.perf_counter()
            self._observe(self._progress(began))

    def _stop(self, threads: Sequence[threading.Thread]) -> None:
        """Workers end after the chunk they are at."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in threads:
            thread.join()

    def _commit(self) -> None:
        found = []
        while not self._results.empty():
            found.append(self._results.get())
        self._writer.commit(found)

    # Worker threads.

    def _work(self) -> None:
        while (search := self._claim()) is not None:
            execution = self._plan.executions[search.batch_size]
            population = Population(
                self._program,
                search.batch_size,
                execution.slots,
                execution.mode,
                lambda steps: evaluation_steps(steps, self._study.evaluation_spacing),
                self._plan_index,
            )
            try:
                population.run(
                    lambda search=search: self._next(search),  # type: ignore[misc]
                    lambda result, search=search: self._end(search, result),  # type: ignore[misc]
                    lambda steps, search=search: self._advanced(search, steps),  # type: ignore[misc]
                )
            except Exception as error:  # noqa: BLE001 (a user's model may raise anything)
                self._fail(search, population, error)

    def _claim(self) -> Search | None:
        """The search with the most time left that can start a trial; None when all is done.

        The longest first keeps all workers busy to the end. While others run, a divergence may
        still make a trial startable, so a worker waits for them.
        """
        with self._changed:
            while not self._stopped:
                able = [search for search in self._searches if search.startable]
                if able:
                    return max(able, key=self._remaining_seconds)
                if not any(search.running for search in self._searches):
                    return None
                self._changed.wait()
        return None

    def _remaining_seconds(self, search: Search) -> float:
        # The plan covers the batch sizes that had work left when it was made.
        return search.remaining_steps * self._plan.seconds_per_step.get(search.batch_size, 0.0)

    def _next(self, search: Search) -> Trial | None:
        with self._changed:
            return None if self._stopped else search.start()

    def _end(self, search: Search, result: TrialResult) -> None:
        with self._changed:
            search.end(result)
            self._results.put(result)
            self._changed.notify_all()

    def _advanced(self, search: Search, steps: int) -> bool:
        with self._changed:
            search.steps_running += steps
            self._made_seconds += steps * self._plan.seconds_per_step[search.batch_size]
            return not self._stopped

    def _fail(self, search: Search, population: Population, error: Exception) -> None:
        """An exception in a user's code: its trials are INCOMPLETE; go on only if asked."""
        message = _in_one_line(error)
        with self._changed:
            for trial in population.trials:
                result = TrialResult(
                    trial, Status.INCOMPLETE, 0, {}, plan=self._plan_index, message=message
                )
                search.end(result)
                self._results.put(result)
            if not (self._keep_going and population.trials) and not self._failure:
                self._failure = (
                    f"a trial at batch size {search.batch_size} failed ({message}); finished "
                    "trials are recorded, and the same command tries again"
                )
                self._stopped = True
            self._changed.notify_all()

    # What the caller sees.

    def _progress(self, began: float) -> Progress:
        with self._changed:
            remaining = sum(self._remaining_seconds(search) for search in self._searches)
            running = sorted({s.batch_size for s in self._searches if s.running})
            complete = sum(
                min(s.count(Status.COMPLETE), self._study.trials) for s in self._searches
            )
            infeasible = sum(s.count(Status.INFEASIBLE) for s in self._searches)
            made = self._made_seconds
        elapsed = time.perf_counter() - began
        pace = elapsed / made if made > 0 else None
        return Progress(
            "training",
            complete,
            infeasible,
            self._study.trials * len(self._searches),
            running,
            made / (made + remaining) if made + remaining else 1.0,
            remaining * pace if pace else None,
        )
