"""The loop of a search over a user's own trials: points are asked for, trained, recorded.

Which trial trains to where follows from the values that are known (experiments/search/fidelity.py)
and from nothing else, so neither workers nor a kill change it. A trial that is put aside at a rung
is recorded INCOMPLETE with what it has measured; what becomes of it replaces that row.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, cast

import numpy as np

from experiments.analysis.search_record import ONE, PUT_ASIDE, Searched
from experiments.records.store import Record, Writer
from experiments.runner.search_objectives import Job, Trainer
from experiments.runtime.stopping import Stop
from experiments.search.fidelity import Populations, Pruner
from experiments.search.record import Round
from experiments.search.rounds import Progress, counts
from experiments.search.samplers.base import Ask, Point, Seen
from experiments.search.samplers.table import SAMPLERS, sampler
from experiments.spec.conditions import Space, recorded
from experiments.spec.errors import StudyError
from experiments.spec.space import Value
from experiments.spec.trial import Reason, Status, Trial, TrialResult

COMMIT_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Question:
    """What a search asks, as its loop needs it.

    Attributes:
      space: searched hyperparameters.
      trials: N, started in all.
      sampler, seed: who proposes.
      pruner: with R, the resource of a full trial.
      patience: resources without an improvement by more than ``min_delta`` that end a trial.
      column: of the evaluations that decides.
      lengths: batch size -> steps after each resource, ascending.
      identity: of the record.
    """

    space: Space
    trials: int
    sampler: str
    seed: int
    pruner: Pruner
    patience: int | None
    min_delta: float
    column: str
    lengths: Callable[[int], list[int]]
    identity: str

    @property
    def sign(self) -> int:
        """1 where a lower value is better, -1 where a higher one is."""
        return 1 if self.pruner.minimize else -1

    def trial(self, index: int, values: Mapping[str, Value], batch_size: int) -> Trial:
        """As it is recorded."""
        plain: dict[str, Any] = {
            name: recorded(self.space.ranges[name], value)
            for name, value in values.items()
            if name != "batch_size"
        }
        text = json.dumps([self.identity, index, batch_size, plain], sort_keys=True)
        return Trial(
            batch_size,
            self.seed,
            index,
            self.lengths(batch_size)[-1],
            plain,
            hashlib.sha256(text.encode()).hexdigest()[:32],
            patience=self.patience,
            min_delta=self.min_delta,
        )


class Driver:
    """One search under way; the thread that made it asks and records, others train.

    Args:
      question: what is asked.
      writer: of the record.
      trainer: of its trials.
      batch_size: of a trial that does not search it.
      keep_going: whether a trial that raises is left out and the search goes on.
      shown: called with the index of every trial that has ended.
    """

    def __init__(
        self,
        question: Question,
        writer: Writer,
        trainer: Trainer,
        *,
        batch_size: int,
        keep_going: bool,
        ended: Callable[[TrialResult], None],
        shown: Callable[[TrialResult], None],
        stop: Stop,
    ):
        self._question, self._writer, self._trainer = question, writer, trainer
        self._batch_size, self._keep_going = batch_size, keep_going
        self._forget, self._shown, self._stop = ended, shown, stop
        self._populations = Populations(question.pruner)
        self._points: list[Point] = []
        self._rounds = 0
        self._exhausted = False
        self._known: dict[int, TrialResult] = {}
        self._final: set[int] = set()
        self._unrecorded: list[TrialResult] = []
        for found in writer.study.get("rounds", []):
            self._add(Round.from_json(found))

    # What is known.

    def take_up(self, record: Record) -> None:
        """What a record holds of the trials: those put aside are known as far as they came."""
        searched = Searched.of(record)
        rows = searched.record.trials.rows(named=True)
        scanned = record.scan("evaluations")
        assert scanned is not None, "a record always has the table"
        tables = scanned.sort("step").collect().partition_by("trial", as_dict=True)
        for row in rows:
            index = row["trial"]
            put_aside = row["message"].startswith(PUT_ASIDE)
            if row["status"] == Status.INCOMPLETE and not put_aside:
                continue
            table = tables.get((index,))
            columns = [] if table is None else [c for c in table.columns if _measures(c)]
            evaluations = {name: table[name].to_numpy() for name in columns}  # type: ignore[index]
            status = Status.STOPPED if put_aside else Status(row["status"])
            reason = "pruned" if put_aside else (row["reason"] or "")
            result = TrialResult(
                self._trial(index), status, row["steps"], evaluations, None, row["seconds"], 0,
                row["message"], reason=cast("Reason", reason),
            )  # fmt: skip
            self._known[index] = result
            if not put_aside:
                self._final.add(index)

    def _values(self, index: int) -> dict[str, Value]:
        names = sorted(self._question.space.ranges)
        return self._question.space.sample(dict(zip(names, self._points[index], strict=True)))

    def _trial(self, index: int) -> Trial:
        values = self._values(index)
        batch_size = int(values.get("batch_size", self._batch_size))
        return self._question.trial(index, values, batch_size)

    def _curve(self, index: int, resource: int) -> list[float] | None:
        """The values of a trial at resources 1 .. ``resource``; see `fidelity.Curve`."""
        result = self._known.get(index)
        if result is None:
            return None
        if result.status in (Status.INFEASIBLE, Status.INCOMPLETE):
            return [math.nan] * resource
        grid = self._question.lengths(result.trial.batch_size)
        over = result.status == Status.COMPLETE or result.reason == "patience"
        if not over and result.steps < grid[resource - 1]:
            return None
        at = dict(
            zip(
                result.evaluations["step"].tolist(),
                result.evaluations[self._question.column].tolist(),
                strict=True,
            )
        )
        return [at.get(step, math.nan) for step in grid[:resource]]

    def _seen(self) -> tuple[Seen, ...]:
        """What a sampler is told: the best value; of a pruned trial that it is worse than that."""
        found = []
        for index, point in enumerate(self._points):
            result = self._known.get(index)
            values = [] if result is None else self._finite(result)
            if result is None or not values or index not in self._final:
                found.append(Seen(ONE, index, point, "infeasible"))
                continue
            pruned = result.reason == "pruned"
            value = min(self._question.sign * value for value in values)
            found.append(Seen(ONE, index, point, "censored" if pruned else "reached", value))
        return tuple(found)

    def _finite(self, result: TrialResult) -> list[float]:
        if result.status not in (Status.COMPLETE, Status.STOPPED):
            return []
        column = np.asarray(result.evaluations.get(self._question.column, ()), float)
        return [float(value) for value in column if math.isfinite(value)]

    # Points.

    def _add(self, found: Round) -> None:
        points = found.proposal.points.get(ONE, ())
        self._points.extend(points)
        self._populations.add(len(points))
        self._exhausted = self._exhausted or ONE in found.proposal.exhausted
        self._rounds += 1

    def _due(self) -> int:
        """Points of the next round; 0 where none is due now."""
        question, started = self._question, len(self._points)
        size = question.pruner.following(self._rounds, started, question.trials)
        if self._exhausted or not size:
            return 0
        if SAMPLERS[question.sampler].adaptive:
            if len(self._final) < started:
                return 0
            if question.pruner.name in ("none", "patience"):
                done = {ONE: Progress(started, started)}
                size = counts(question.trials, done, adaptive=True).get(ONE, 0)
        return size

    def _propose(self) -> None:
        question = self._question
        while size := self._due():
            self._commit()
            space = question.space
            ask = Ask(
                question.seed, self._rounds, question.trials, space.ranges, {ONE: size},
                self._seen(), log_values=False, conditions=space.conditions,
            )  # fmt: skip
            found = Round(question.seed, self._rounds, sampler(question.sampler)(ask))
            self._writer.add_round(found.to_json())
            self._add(found)

    # Training.

    def run(self, workers: int) -> None:
        """Train until nothing is left.

        Raises:
          StudyError: a trial raised, and the search is not to keep going.
          KeyboardInterrupt: as asked for; what has finished is recorded.
        """
        running: dict[Future[TrialResult], int] = {}
        waiting: list[tuple[int, int]] = []
        failure = ""
        committed = time.perf_counter()
        pool = ThreadPoolExecutor(workers, "trial")
        try:
            while True:
                if not waiting and not failure:
                    waiting = self._wanted(set(running.values()))
                while waiting and len(running) < workers and not failure:
                    index, target = waiting.pop(0)
                    running[pool.submit(self._trainer.train, self._job(index, target))] = index
                if not running:
                    break
                done, _ = wait(running, timeout=0.1, return_when=FIRST_COMPLETED)
                self._stop.check()
                for future in sorted(done, key=lambda future: running[future]):
                    del running[future]
                    failure = failure or self._take(future.result())
                if time.perf_counter() - committed > COMMIT_SECONDS:
                    self._commit()
                    committed = time.perf_counter()
        except KeyboardInterrupt:
            self._stop.ask(KeyboardInterrupt)  # trainers end at their next report or chunk
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            self._commit()
        if failure:
            raise StudyError(failure)

    def _wanted(self, running: set[int]) -> list[tuple[int, int]]:
        """(trial, resource) that may start now, in the order of the trials."""
        while True:
            self._propose()
            jobs = self._populations.jobs(self._curve)
            pruned = self._populations.pruned - self._final
            for index in sorted(pruned):
                self._end(self._known[index])
            if not jobs and self._due():
                continue
            return sorted(job for job in jobs.items() if job[0] not in running)

    def _job(self, index: int, target: int) -> Job:
        known = self._known.get(index)
        found = known.evaluations if known is not None else {}
        return Job(
            self._trial(index),
            self._values(index),
            target,
            np.asarray(found.get("step", ()), np.int64),
            np.asarray(found.get(self._question.column, ()), float),
        )

    def _take(self, result: TrialResult) -> str:
        """Keep a result; what to end the search with, if anything."""
        index = result.trial.index
        before = self._known.get(index)
        if before is not None:
            result = dataclasses.replace(result, seconds=result.seconds + before.seconds)
        self._known[index] = result
        if result.status == Status.STOPPED and result.reason == "pruned":
            aside = f"{PUT_ASIDE}{result.steps} steps"
            self._unrecorded.append(
                dataclasses.replace(result, status=Status.INCOMPLETE, message=aside, reason="")
            )
            return ""
        self._end(result)
        if result.status == Status.INCOMPLETE and not self._keep_going:
            self._final.discard(index)
            return (
                f"trial {index} failed ({result.message}); finished trials are recorded, and the "
                "same call tries again"
            )
        return ""

    def _end(self, result: TrialResult) -> None:
        self._final.add(result.trial.index)
        if result.message.startswith(PUT_ASIDE):
            result = dataclasses.replace(result, message="")
        self._unrecorded.append(result)
        self._shown(result)

    def _commit(self) -> None:
        newest = {result.trial.key: result for result in self._unrecorded}
        self._writer.commit(list(newest.values()))
        for result in newest.values():
            if result.status != Status.INCOMPLETE:
                self._forget(result)
        self._unrecorded.clear()


def _measures(column: str) -> bool:
    return column in ("step", "examples") or "/" in column
