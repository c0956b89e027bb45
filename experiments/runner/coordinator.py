"""The coordinator of a study under way: workers train, this thread records."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Sequence

from experiments.planning.execution import Execution, Plan
from experiments.records.files import DiskError, RecordError
from experiments.records.follower import Follower
from experiments.records.store import Writer
from experiments.runtime import hosts
from experiments.runtime.memory import out_of_memory
from experiments.runtime.stopping import Preempted, Stop
from experiments.search.search import Search
from experiments.spec.errors import StudyError, in_one_line
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import Status, Trial, TrialResult
from experiments.training.population import Population
from experiments.training.program import Program
from experiments.training.resume import Checkpoints

COMMIT_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """What a caller may show while a study runs.

    Attributes:
      phase: what happens now, in words.
      complete, infeasible, wanted: trials, over all batch sizes; ``wanted`` COMPLETE ones.
      running: batch sizes being trained.
      share: done part of the work in [0, 1], by time.
      remaining_seconds: estimate, None before there is one.
      checked: whether the input has been found good: an error may still be all there is to say
        before that.
    """

    phase: str
    complete: int = 0
    infeasible: int = 0
    wanted: int = 0
    running: Sequence[int] = ()
    share: float = 0.0
    remaining_seconds: float | None = None
    checked: bool = True


Observer = Callable[[Progress], None]


class Coordinator:
    """Workers train, this thread records; both meet in ``_searches`` under one lock."""

    def __init__(
        self,
        study: ResolvedStudy,
        writer: Writer | Follower,
        searches: Sequence[Search],
        program: Program,
        plan: Plan,
        plan_index: int,
        checkpoints: Checkpoints,
        keep_going: bool,
        observe: Observer,
        stop: Stop | None = None,
    ):
        self._study = study
        self._writer = writer
        self._searches = searches
        self._program = program
        self._plan = plan
        self._plan_index = plan_index
        self._plans = {plan_index: plan}
        self._checkpoints = checkpoints
        self._keep_going = keep_going
        self._observe = observe
        self._changed = threading.Condition()
        self._results: list[TrialResult] = []  # finished and, as far as is known, not recorded
        self._stop = stop or Stop()
        self._ending = False  # asked to end; several processes do so after the same chunk
        self._stopped = False
        self._preempted = False
        self._failure: str | None = None
        self._died: BaseException | None = None  # what ended a worker, no trial's failure
        self._made_seconds = 0.0
        self._full: set[int] = set()  # batch sizes that ran out of memory under this plan
        self._threads = plan.workers

    def run(self) -> None:
        """Train all; on any way out but a failing disk, what has finished is recorded.

        Raises:
          StudyError: a trial failed, or a worker did.
          RecordError: the disk failed.
          KeyboardInterrupt, Preempted: asked for through ``stop``, or raised by the caller's own
            handler. `Preempted` saves what is running too; it is raised in every process once one
            is told to end.
        """
        threads = [
            threading.Thread(target=self._work, name=f"trainer-{i}", daemon=True)
            for i in range(self._plan.workers)
        ]
        began = time.perf_counter()
        try:
            try:
                for thread in threads:
                    thread.start()
                self._record_while(threads, began)
            except Preempted:
                self._preempted = True
                raise
            finally:
                self._end_workers(threads)
            if self._preempted:
                self._stop.check()
                raise Preempted
        except DiskError:
            raise
        except RecordError as error:  # (a damaged part, found while groups are merged)
            raise StudyError(str(error)) from error
        except BaseException as error:
            self._commit()
            if isinstance(error, KeyboardInterrupt) and hosts.several() and not self._failure:
                hosts.leave()  # together: whoever went first would end the others
            raise
        self._commit()
        self._observe(self._progress(began))
        if self._failure:
            raise StudyError(self._failure)
        if isinstance(self._died, Exception):
            raise self._died
        if self._died:
            raise StudyError(f"training ended: {in_one_line(self._died)}") from self._died

    def _record_while(self, threads: Sequence[threading.Thread], began: float) -> None:
        committed = began
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.05)
            self._stop.check()
            self._shrink()
            if time.perf_counter() - committed > COMMIT_SECONDS:
                self._commit()
                committed = time.perf_counter()
            self._observe(self._progress(began))

    def _end_workers(self, threads: Sequence[threading.Thread]) -> None:
        """Workers end after the chunk they are at."""
        with self._changed:
            self._ending = True
            self._stopped = self._stopped or not hosts.several()
            self._changed.notify_all()
        for thread in threads:
            thread.join()

    def _commit(self) -> None:
        """Record what has finished; it is forgotten here only after that."""
        found = self._results[:]
        self._writer.commit(found)
        for result in found:
            self._checkpoints.end(result.trial, result.status)
        del self._results[: len(found)]

    def _shrink(self) -> None:
        """After an out-of-memory: the smaller plan, recorded before anything is trained by it."""
        with self._changed:
            for batch_size in self._full:
                self._plan = self._plan.after_out_of_memory(batch_size) or self._plan
            if self._full:
                self._plan_index = self._writer.add_plan(self._plan.to_json())
                self._plans[self._plan_index] = self._plan
                self._full.clear()
                self._changed.notify_all()

    # Worker threads.

    def _work(self) -> None:
        try:
            while (claimed := self._claim()) is not None:
                self._train(*claimed)
        except BaseException as error:  # noqa: BLE001 (`run` raises it again)
            with self._changed:
                self._died = self._died or error
                self._stopped = True
                self._changed.notify_all()

    def _train(self, search: Search, execution: Execution, plan: int) -> None:
        """Train a batch size until nothing is left to start, or it is to be done otherwise."""
        population: Population | None = None
        try:
            population = self._population(search, execution, plan)
            population.run(
                lambda: self._next(search, plan),
                lambda result: self._end(search, result),
                lambda steps: self._advanced(search, plan, steps),
            )
        except BaseException as error:  # noqa: BLE001 (a user's model may raise anything)
            if hosts.several():
                self._part(in_one_line(error))
            elif out_of_memory(error):
                self._run_out(search, population, plan, error)
            else:
                self._fail(search, population, in_one_line(error))
        else:
            if self._preempted:
                population.save()
            with self._changed:
                search.release(population.trials, population.steps_under_way)

    def _population(self, search: Search, execution: Execution, plan: int) -> Population:
        return Population(
            self._program,
            search.batch_size,
            execution,
            grid=self._study.grid,
            plan=plan,
            checkpoints=self._checkpoints,
            phases=self._study.phases(search.batch_size),
        )

    def _claim(self) -> tuple[Search, Execution, int] | None:
        """The search with the most time left that can start a trial, how its trials run and by
        which plan; None when all is done.

        The longest first keeps all workers busy to the end. While others run, a divergence may
        still make a trial startable, so a worker waits for them.
        """
        with self._changed:
            while not self._stopped:
                if self._threads > self._plan.workers:
                    self._threads -= 1
                    return None
                able = [search for search in self._searches if search.startable]
                if able and not self._full:
                    search = max(able, key=self._remaining_seconds)
                    return search, self._plan.executions[search.batch_size], self._plan_index
                if not able and not any(search.running for search in self._searches):
                    return None
                self._changed.wait()
        return None

    def _remaining_seconds(self, search: Search) -> float:
        # The plan covers the batch sizes that had work left when it was made.
        return search.remaining_steps * self._plan.seconds_per_step.get(search.batch_size, 0.0)

    def _next(self, search: Search, plan: int) -> Trial | None:
        with self._changed:
            return None if self._stopped or self._outdated(search, plan) else search.start()

    def _end(self, search: Search, result: TrialResult) -> None:
        with self._changed:
            search.end(result)
            self._results.append(result)
            self._changed.notify_all()

    def _advanced(self, search: Search, plan: int, steps: int) -> bool:
        with self._changed:
            search.steps_running += steps
            self._made_seconds += steps * self._plan.seconds_per_step[search.batch_size]
        ending = self._ending or (hosts.several() and self._stop.asked is not None)
        if not hosts.all_true(not ending):
            self._stopped = True
            self._preempted = self._preempted or hosts.several()
        with self._changed:
            return not self._stopped and not self._outdated(search, plan)

    def _outdated(self, search: Search, plan: int) -> bool:
        """Whether trials of this batch size are to start again under a newer plan."""
        size = search.batch_size
        changed = self._plans[plan].executions[size] != self._plan.executions[size]
        return changed or size in self._full

    def _run_out(
        self, search: Search, population: Population | None, plan: int, error: BaseException
    ) -> None:
        """Memory is full: unfinished trials start again under a smaller plan, if there is one."""
        with self._changed:
            older = plan != self._plan_index
            if older or self._plan.after_out_of_memory(search.batch_size):
                if population is not None:
                    search.release(population.trials, population.steps_under_way)
                if not older:
                    self._full.add(search.batch_size)
                self._changed.notify_all()
                return
        self._fail(
            search,
            population,
            f"{in_one_line(error)}; one trial at a time needs more memory than there is: choose "
            "batch sizes that fit (batchscale plan STUDY finds them) or cut the step into "
            "micro-batches (--micro-batch)",
        )

    def _part(self, message: str) -> None:
        """An exception in one of several processes: the others cannot go on without it."""
        with self._changed:
            self._failure = (
                f"training failed in process {hosts.index()}, or another process is gone "
                f"({message}); finished trials are recorded, and the same commands try again"
            )
            self._stopped = True

    def _fail(self, search: Search, population: Population | None, message: str) -> None:
        """An exception in a user's code: its trials are INCOMPLETE; go on only if asked."""
        trials = population.trials if population is not None else []
        what = "a trial" if trials else "training"
        with self._changed:
            for trial in trials:
                result = TrialResult(
                    trial, Status.INCOMPLETE, 0, {}, plan=self._plan_index, message=message
                )
                search.end(result)
                self._results.append(result)
            if not (self._keep_going and trials) and not self._failure:
                self._failure = (
                    f"{what} at batch size {search.batch_size} failed ({message}); finished "
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
