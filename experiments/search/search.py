"""The trials of one seed at all batch sizes: which may start, which have ended, what comes next.

A sampler that learns proposes rounds: round r goes over all batch sizes at once, and its points
are f(seed, r, the results of earlier rounds of this seed). It is asked for when all trials of the
round before have ended, recorded before any of its own starts, and never computed again. Points of
other samplers do not wait for results: trial i starts once i < N + the number INFEASIBLE so far, at
most 4N. Either way the set that is started in the end is the same whatever the timing.

Where trials race, every sampler goes in rounds: the bound of a trial follows from the trials of
earlier rounds of its search and batch size, so it is known before the trial starts; a round that
has none goes in laps (`pacing`). One counting rule holds for all searches of a study: of a trial
that trains to full length a sampler is told, and the N count, what it would have shown had it
stopped.

The parts: `trials` keeps the account of one batch size, `stopping` says how far a trial may go and
what it has shown, `proposals` asks the sampler for points.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from experiments.search.fidelity import Pruner
from experiments.search.proposals import Proposals
from experiments.search.record import Ended, Round
from experiments.search.samplers.base import Outcome
from experiments.search.trials import SizeTrials
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import Status, Trial, TrialResult


class Search:
    """One search. Not thread-safe: the coordinator holds its lock.

    Args:
      study: the question.
      seed: of the search.
      checksum: of the dataset.
      full: whether its trials train to full length, whatever the study says of stopping.
      recorded: its rounds so far, in their order.
      ended: (batch size, index) -> how it ended, of trials recorded already.
    """

    def __init__(
        self,
        study: ResolvedStudy,
        seed: int,
        checksum: str,
        *,
        full: bool = True,
        recorded: Sequence[Round] = (),
        ended: Mapping[tuple[int, int], Ended] | None = None,
    ):
        self.study, self.seed, self._checksum, self._full = study, seed, checksum, full
        known: dict[int, dict[int, Ended]] = {batch_size: {} for batch_size in study.batch_sizes}
        # A batch size may be recorded and not asked for this time.
        for found in recorded:
            known |= {batch_size: {} for batch_size in found.counts if batch_size not in known}
        for (batch_size, index), how in (ended or {}).items():
            known.setdefault(batch_size, {})[index] = how
        self._sizes = {batch_size: SizeTrials(study, batch_size, full) for batch_size in known}
        self._proposals = Proposals(study, seed, self._sizes)
        for found in recorded:
            self.add(found)
        for batch_size, own in self._sizes.items():
            own.recall(known[batch_size])

    # What has ended.

    def ended(self, batch_size: int) -> dict[int, Ended]:
        """Index -> how it ended."""
        return self._sizes[batch_size].ended

    def count(self, status: Status, batch_size: int | None = None) -> int:
        """Count the trials of the study's batch sizes, or of this one, that ended so."""
        sizes = self.study.batch_sizes if batch_size is None else (batch_size,)
        return sum(how.status == status for b in sizes for how in self.ended(b).values())

    def race_bound(self, batch_size: int, index: int) -> int | None:
        """Steps after which the race ends a trial, or would; None: its length comes first."""
        return self._sizes[batch_size].race_bound(index)

    def outcome(self, batch_size: int, index: int) -> tuple[Outcome, float]:
        """Return what a sampler is told of a trial that has ended."""
        return self._sizes[batch_size].outcome(index)

    # What may start.

    def proposed(self, batch_size: int) -> int:
        """Count the trials whose points are known."""
        return self._proposals.known(batch_size)

    def running(self, batch_size: int) -> bool:
        """Tell whether a trial was started and has not ended."""
        return self._sizes[batch_size].running

    def startable(self, batch_size: int) -> bool:
        """Tell whether a trial may start now."""
        return self._sizes[batch_size].next(self.proposed(batch_size)) is not None

    def unfinished(self, batch_size: int) -> bool:
        """Tell whether trials may start, now or once others have ended."""
        wanted = self._proposals.wanted(batch_size)
        return self.startable(batch_size) or bool(wanted) or self.running(batch_size)

    def remaining_steps(self, batch_size: int) -> int:
        """Trial-steps of trials that have not ended, at most, if nothing more diverges."""
        own, proposed = self._sizes[batch_size], self.proposed(batch_size)
        waiting = proposed - sum(index < proposed for index in own.ended)
        length = self.study.length(batch_size)
        if not self._full and own.rounds:
            length = own.race_bound(own.rounds[-1]) or length
        if (pruner := Pruner.of(self.study)) is not None:
            sizes = pruner.sizes(self.study.trials)
            cost = sum(pruner.cost(number, size) for number, size in enumerate(sizes))
            length = math.ceil(length * cost / (pruner.resource * max(1, sum(sizes))))
        return (waiting + self._proposals.to_come(batch_size)) * length

    def trial(self, batch_size: int, index: int) -> Trial:
        """Trial ``index``, at its point."""
        position = self._proposals.position(batch_size, index)
        trial = self.study.trial(batch_size, self.seed, index, position, self._checksum)
        if self.study.pruner != "none":
            return self._pausing(trial)
        if self.study.stop == "never":
            return trial
        own = self._sizes[batch_size]
        bound = None if own.paced(index) else own.race_bound(index)
        return dataclasses.replace(
            trial, stops=not self._full, race_bound=bound, pause=own.pause(index)
        )

    def _pausing(self, trial: Trial) -> Trial:
        """The trial as far as the pruner lets it train by now."""
        pause, study = self._sizes[trial.batch_size].pause(trial.index), self.study
        patience = study.patience
        if patience is not None:
            patience = max(1, trial.train_steps * patience // study.pruner_resource)
        return dataclasses.replace(trial, pause=pause, patience=patience)

    def start(self, batch_size: int) -> Trial | None:
        """The next trial, or None where none may start now."""
        index = self._sizes[batch_size].start(self.proposed(batch_size))
        return None if index is None else self.trial(batch_size, index)

    def release(self, trial: Trial) -> None:
        """Put back an unfinished trial, so that it can start again."""
        self._sizes[trial.batch_size].release(trial.index)

    def end(self, result: TrialResult) -> list[TrialResult]:
        """Take a result; returns those that are final now, for the record.

        One that waits for the bound of its round is returned with it, once that is known.
        """
        return self._sizes[result.trial.batch_size].end(result)

    # What is proposed next.

    @property
    def rounds(self) -> list[Round]:
        """The recorded rounds, in their order."""
        return self._proposals.rounds

    def due(self) -> dict[int, int]:
        """Batch size -> points to be proposed now; empty where none are, or trials must end first.

        In rounds that is when all trials of the study's batch sizes have ended.
        """
        return self._proposals.due()

    def propose(self, counts: Mapping[int, int]) -> Round:
        """The points that are `due`; `add` makes them startable once they are recorded."""
        return self._proposals.propose(counts)

    def add(self, found: Round) -> None:
        """Take a recorded round."""
        self._proposals.add(found)
