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
    """The progress of a study, for a caller to show.

    Attributes:
      phase: what happens now, in words.
      complete, infeasible, wanted: trials, over all batch sizes; ``complete`` ones are COMPLETE
        or STOPPED, ``wanted`` so many.
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
    """Workers train, this thread records; both meet in ``_searches`` under one lock.

    A pack holds trials of one batch size, of any search. A worker that finds nothing to start asks
    the searches whose round has ended for their next one, and records it, before it waits.
    """

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
        self._searches = {search.seed: search for search in searches}
        self._steps_running = dict.fromkeys(study.batch_sizes, 0)
        self._writing = threading.RLock()  # taken after ``_changed`` where both are held
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
          StudyError: a trial failed, or a worker did, or the record was damaged meanwhile.
          DiskError: the disk failed.
          KeyboardInterrupt, Preempted: asked for through ``stop``, or raised by the caller's own
            handler. `Preempted` saves what is running too; it is raised in every process once one
            is told to end.
        """
        try:
            self._train_and_record()
        except DiskError:
            raise
        except RecordError as error:  # training has begun: this is no bad input
            raise StudyError(str(error)) from error

    def _train_and_record(self) -> None:
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
        except RecordError:  # a second attempt would meet the same disk or the same damage
            raise
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
        with self._writing:
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
                with self._writing:
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

    def _train(self, batch_size: int, execution: Execution, plan: int) -> None:
        """Train a batch size until nothing is left to start, or it is to be done otherwise."""
        population: Population | None = None
        try:
            population = self._population(batch_size, execution, plan)
            population.run(
                lambda: self._next(batch_size, plan),
                self._end,
                lambda steps: self._advanced(batch_size, plan, steps),
            )
        except BaseException as error:  # noqa: BLE001 (a user's model may raise anything)
            if hosts.several():
                self._part(in_one_line(error))
            elif out_of_memory(error):
                self._run_out(batch_size, population, plan, error)
            else:
                self._fail(batch_size, population, in_one_line(error))
        else:
            if self._preempted:
                population.save()
            with self._changed:
                self._release(batch_size, population)

    def _release(self, batch_size: int, population: Population) -> None:
        """Its unfinished trials may start again."""
        for trial in population.trials:
            self._searches[trial.seed].release(trial)
        self._count_steps(batch_size, -population.steps_under_way)

    def _count_steps(self, batch_size: int, steps: int) -> None:
        """Steps that running trials have made."""
        self._steps_running[batch_size] = max(0, self._steps_running[batch_size] + steps)

    def _population(self, batch_size: int, execution: Execution, plan: int) -> Population:
        return Population(
            self._program,
            batch_size,
            execution,
            grid=self._study.grid,
            plan=plan,
            checkpoints=self._checkpoints,
            phases=self._study.phases(batch_size),
        )

    def _claim(self) -> tuple[int, Execution, int] | None:
        """The batch size with the most time left that can start a trial, how its trials run and by
        which plan; None when all is done.

        The longest first keeps all workers busy to the end. While others run, a divergence or the
        end of a round may still make a trial startable, so a worker waits for them.
        """
        with self._changed:
            while not self._stopped:
                if self._threads > self._plan.workers:
                    self._threads -= 1
                    return None
                self._propose()
                able = [b for b in self._study.batch_sizes if self._startable(b)]
                if able and not self._full:
                    size = max(able, key=self._remaining_seconds)
                    return size, self._plan.executions[size], self._plan_index
                if not able and not any(map(self._running, self._study.batch_sizes)):
                    return None
                self._changed.wait()
        return None

    def _startable(self, batch_size: int) -> bool:
        return any(search.startable(batch_size) for search in self._searches.values())

    def _running(self, batch_size: int) -> bool:
        return any(search.running(batch_size) for search in self._searches.values())

    def _propose(self) -> None:
        """Ask every search whose round has ended for the next one, and record it.

        What it follows from is recorded first.
        """
        for search in self._searches.values():
            while counts := search.due():
                with self._writing:
                    self._commit()
                    found = search.propose(counts)
                    self._writer.add_round(found.to_json())
                search.add(found)
                self._changed.notify_all()

    def _remaining_seconds(self, batch_size: int) -> float:
        # The plan covers the batch sizes that had work left when it was made.
        steps = sum(search.remaining_steps(batch_size) for search in self._searches.values())
        left = max(0, steps - self._steps_running[batch_size])
        return left * self._plan.seconds_per_step.get(batch_size, 0.0)

    def _next(self, batch_size: int, plan: int) -> Trial | None:
        with self._changed:
            if self._stopped or self._outdated(batch_size, plan):
                return None
            try:
                self._propose()
            except Exception as error:  # noqa: BLE001 (no trial's failure: `run` raises it again)
                self._died = self._died or error
                self._stopped = True
                return None
            for search in self._searches.values():
                if (trial := search.start(batch_size)) is not None:
                    return trial
            return None

    def _end(self, result: TrialResult) -> None:
        with self._changed:
            self._searches[result.trial.seed].end(result)
            self._count_steps(result.trial.batch_size, -result.steps)
            self._results.append(result)
            self._changed.notify_all()

    def _advanced(self, batch_size: int, plan: int, steps: int) -> bool:
        with self._changed:
            self._count_steps(batch_size, steps)
            self._made_seconds += steps * self._plan.seconds_per_step[batch_size]
        ending = self._ending or (hosts.several() and self._stop.asked is not None)
        if not hosts.all_true(not ending):
            self._stopped = True
            self._preempted = self._preempted or hosts.several()
        with self._changed:
            return not self._stopped and not self._outdated(batch_size, plan)

    def _outdated(self, size: int, plan: int) -> bool:
        """Tell whether trials of this batch size must start again under a newer plan."""
        changed = self._plans[plan].executions[size] != self._plan.executions[size]
        return changed or size in self._full

    def _run_out(
        self, batch_size: int, population: Population | None, plan: int, error: BaseException
    ) -> None:
        """Memory is full: unfinished trials start again under a smaller plan, if there is one."""
        with self._changed:
            older = plan != self._plan_index
            if older or self._plan.after_out_of_memory(batch_size):
                if population is not None:
                    self._release(batch_size, population)
                if not older:
                    self._full.add(batch_size)
                self._changed.notify_all()
                return
        self._fail(
            batch_size,
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

    def _fail(self, batch_size: int, population: Population | None, message: str) -> None:
        """An exception in a user's code: its trials are INCOMPLETE; go on only if asked."""
        trials = population.trials if population is not None else []
        what = "a trial" if trials else "training"
        with self._changed:
            for trial in trials:
                result = TrialResult(
                    trial, Status.INCOMPLETE, 0, {}, plan=self._plan_index, message=message
                )
                self._searches[trial.seed].end(result)
                self._results.append(result)
            if not (self._keep_going and trials) and not self._failure:
                self._failure = (
                    f"{what} at batch size {batch_size} failed ({message}); finished "
                    "trials are recorded, and the same command tries again"
                )
                self._stopped = True
            self._changed.notify_all()

    # What the caller sees.

    def _progress(self, began: float) -> Progress:
        with self._changed:
            sizes, searches = self._study.batch_sizes, self._searches.values()
            remaining = sum(map(self._remaining_seconds, sizes))
            running = [b for b in sizes if self._running(b)]
            complete = sum(
                min(
                    search.count(Status.COMPLETE, b) + search.count(Status.STOPPED, b),
                    self._study.trials,
                )
                for search in searches
                for b in sizes
            )
            infeasible = sum(search.count(Status.INFEASIBLE) for search in searches)
            made = self._made_seconds
        elapsed = time.perf_counter() - began
        pace = elapsed / made if made > 0 else None
        return Progress(
            "training",
            complete,
            infeasible,
            self._study.trials * len(searches) * len(sizes),
            running,
            made / (made + remaining) if made + remaining else 1.0,
            remaining * pace if pace else None,
        )
