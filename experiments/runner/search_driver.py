"""The loop of a search over a user's own trials: points are asked for, trained, recorded.

Which trial trains to where follows from the values that are known (experiments/search/fidelity.py)
and from nothing else, so neither workers nor a kill change it. A trial that is put aside at a rung
is recorded INCOMPLETE with what it has measured; what becomes of it replaces that row.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Protocol

from experiments.analysis.search_record import ONE, PUT_ASIDE
from experiments.records.store import Record, Writer
from experiments.runner.search_known import Known, SearchQuestion
from experiments.runner.search_objectives import Trainer, TrialJob
from experiments.runtime.stopping import Stop
from experiments.search.fidelity import Populations
from experiments.search.record import Round
from experiments.search.rounds import RoundProgress, counts
from experiments.search.samplers.base import Ask
from experiments.search.samplers.table import SAMPLERS, sampler
from experiments.spec.errors import StudyError
from experiments.spec.trial import Status, TrialResult

COMMIT_SECONDS = 1.0


class Limit(Protocol):
    """The end of a search that goes on round after round until something else is over."""

    def begins(self, number: int, trials: int, resources: int) -> bool:
        """Tell whether round ``number`` begins, of so many trials and at most so many resources."""
        ...

    def over(self) -> bool:
        """Tell whether all ends now: trials under way are left where they are."""
        ...


class _Pool:
    """Jobs under way in threads."""

    def __init__(self, trainer: Trainer, workers: int):
        self._trainer = trainer
        self._threads = ThreadPoolExecutor(workers, "trial")
        self._running: dict[Future[TrialResult], int] = {}

    @property
    def trials(self) -> set[int]:
        """Those whose results were not taken out."""
        return set(self._running.values())

    def begin(self, job: TrialJob) -> None:
        """Train a trial, of which no other job is under way."""
        self._running[self._threads.submit(self._trainer.train, job)] = job.trial.index

    def ended(self, within: float = 0.0) -> tuple[list[TrialResult], BaseException | None]:
        """Take out what ends within so many seconds: results by trial, the first exception."""
        done, _ = wait(self._running, within, FIRST_COMPLETED)
        found = sorted(done, key=self._running.__getitem__)
        for future in found:
            del self._running[future]
        errors = {future: future.exception() for future in found if not future.cancelled()}
        results = [future.result() for future, error in errors.items() if error is None]
        return results, next(filter(None, errors.values()), None)

    def close(self) -> None:
        """Wait for what is under way."""
        self._threads.shutdown(wait=True, cancel_futures=True)


class Driver:
    """One search under way; the thread that made it asks and records, others train.

    Args:
      question: what is asked.
      writer: of the record.
      trainer: of its trials.
      keep_going: whether a trial that raises is left out and the search goes on.
      ended: called with every trial that has ended, once it is recorded.
      shown: called with it before.
      limit: asked before every round; None: all trials of the question are started.
    """

    def __init__(
        self,
        question: SearchQuestion,
        writer: Writer,
        trainer: Trainer,
        *,
        keep_going: bool,
        ended: Callable[[TrialResult], None],
        shown: Callable[[TrialResult], None],
        stop: Stop,
        limit: Limit | None = None,
    ):
        self._question, self._writer, self._trainer = question, writer, trainer
        self._keep_going = keep_going
        self._ended, self._shown, self._stop = ended, shown, stop
        self._limit, self._closed = limit, False
        self._populations = Populations(question.pruner)
        self._known = Known(question)
        self._sizes: list[int] = []  # trials of every round
        self._exhausted = False
        self._unrecorded: list[TrialResult] = []
        for found in writer.study.get("rounds", []):
            self._add(Round.from_json(found))

    def take_up(self, record: Record) -> None:
        """Take what a record holds of the trials."""
        self._known.take_up(record)

    # Points.

    def _add(self, found: Round) -> None:
        points = self._known.add(found)
        self._populations.add(points)
        self._exhausted = self._exhausted or ONE in found.proposal.exhausted
        self._sizes.append(points)

    @property
    def _rounds(self) -> int:
        return len(self._sizes)

    def _due(self) -> int:
        """Points of the next round; 0 where none is due now."""
        question, started = self._question, len(self._known.points)
        size = question.pruner.following(self._rounds, started, question.trials)
        if self._exhausted or self._closed or not size:
            return 0
        if (question.proposer or SAMPLERS[question.sampler]).adaptive:
            if len(self._known.final) < started:
                return 0
            size = _adaptive(question, size, started)
        if question.proposer is not None:
            size = question.proposer.following(started, question.trials)
        if size and self._limit is not None:
            if len(self._known.final) < started:
                return 0  # a round is asked for once the one before has ended
            cost = question.pruner.cost(self._rounds, size)
            self._closed = not self._limit.begins(self._rounds, size, cost)
            return 0 if self._closed else size
        return size

    def _propose(self) -> None:
        question, space = self._question, self._question.space
        while size := self._due():
            self._commit()
            ask = Ask(
                question.seed, self._rounds, question.trials, space.ranges, {ONE: size},
                self._known.seen(), log_values=False, conditions=space.conditions,
                coordinates=question.coordinates,
            )  # fmt: skip
            if question.proposer is not None:
                proposal = question.proposer.propose(ask, self._sizes)
            else:
                proposal = sampler(question.sampler)(ask)
            found = Round(question.seed, self._rounds, proposal)
            points = len(found.proposal.points.get(ONE, ()))
            self._writer.add_round(found.to_json(), len(self._known.points) + points)
            self._add(found)

    # Training.

    def run(self, workers: int) -> None:
        """Train until nothing is left.

        Raises:
          StudyError: a trial raised, and the search is not to keep going.
          KeyboardInterrupt: as asked for.

        What has finished is recorded on every way out, before the rest is waited for, which may
        take long: a second Ctrl-C ends that.
        """
        pool = _Pool(self._trainer, workers)
        waiting: list[tuple[int, int]] = []
        failures: list[str] = []
        committed = time.perf_counter()
        try:
            while True:
                if not waiting and not failures:
                    waiting = self._wanted(pool.trials)
                while waiting and len(pool.trials) < workers and not failures:
                    pool.begin(self.job(*waiting.pop(0)))
                if not pool.trials:
                    break
                results, raised = pool.ended(within=0.1)
                failures += filter(None, map(self._take, results))
                self._stop.check()
                if raised is not None:
                    raise raised
                if time.perf_counter() - committed > COMMIT_SECONDS:
                    self._commit()
                    committed = time.perf_counter()
        except KeyboardInterrupt as ended:
            self._stop.ask(type(ended))  # trainers end at their next report or chunk
            raise
        finally:
            try:
                self._record(pool)
            finally:
                pool.close()
                self._record(pool)
        if failures:
            raise StudyError(failures[0])

    def _record(self, pool: _Pool) -> None:
        """Record what has finished."""
        for result in pool.ended()[0]:
            self._take(result)
        self._commit()

    def _wanted(self, running: set[int]) -> list[tuple[int, int]]:
        """(trial, resource) that may start now, in the order of the trials."""
        while True:
            self._propose()
            jobs = self._populations.jobs(self._known.curve)
            pruned = (i for i in self._populations.pruned if i not in self._known.final)
            for index in sorted(pruned):
                self._end(self._known.results[index])
            if not jobs and self._due():
                continue
            return sorted(job for job in jobs.items() if job[0] not in running)

    def job(self, index: int, target: int) -> TrialJob:
        """The job that trains a trial up to a resource."""
        return self._known.job(index, target)

    def _take(self, result: TrialResult) -> str:
        """Keep a result; what to end the search with, if anything."""
        index = result.trial.index
        before = self._known.results.get(index)
        if before is not None:
            result = dataclasses.replace(result, seconds=result.seconds + before.seconds)
        self._known.take(result)
        if result.status == Status.STOPPED and result.reason == "pruned":
            aside = f"{PUT_ASIDE}{result.steps} steps"
            self._unrecorded.append(
                dataclasses.replace(result, status=Status.INCOMPLETE, message=aside, reason="")
            )
            return ""
        self._end(result)
        if result.status == Status.INCOMPLETE and not self._keep_going:
            self._known.final.discard(index)
            return (
                f"trial {index} failed ({result.message}); finished trials are recorded, and the "
                "same call tries again"
            )
        return ""

    def _end(self, result: TrialResult) -> None:
        self._known.final.add(result.trial.index)
        if result.message.startswith(PUT_ASIDE):
            result = dataclasses.replace(result, message="")
        self._unrecorded.append(result)
        self._shown(result)

    def _commit(self) -> None:
        newest = {result.trial.key: result for result in self._unrecorded}
        self._writer.commit(list(newest.values()))
        for result in newest.values():
            self._known.recorded(result.trial.index)
            if not result.message.startswith(PUT_ASIDE):
                self._ended(result)
        self._unrecorded.clear()


def _adaptive(question: SearchQuestion, size: int, started: int) -> int:
    """Points of the next round of one who waits for results."""
    if question.pruner.name not in ("none", "patience", "extrapolation"):
        return size
    done = {ONE: RoundProgress(started, started)}
    return counts(question.trials, done, adaptive=True).get(ONE, 0)
