"""All searches of a study, as one source of trials."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.runner.recorder import Recorder
from experiments.search.source import TrialSource
from experiments.spec.trial import Status, Trial, TrialResult


class Searches:
    """The searches of one study; a pack holds trials of one batch size, of any of them.

    Not thread-safe: the jobs hold their lock.

    Args:
      searches: one a seed, all of the same study.
      recorder: where rounds are recorded.
    """

    def __init__(self, searches: Sequence[TrialSource], recorder: Recorder):
        self._by_seed = {search.seed: search for search in searches}
        self._recorder = recorder
        self.study = searches[0].study

    def propose(self) -> bool:
        """Ask every search whose round has ended for the next one, and record it.

        What it follows from is recorded first. Returns whether there were any.
        """
        added = False
        for search in self._by_seed.values():
            while counts := search.due():
                self._recorder.commit()
                found = search.propose(counts)
                self._recorder.add_round(found)
                search.add(found)
                added = True
        return added

    def start(self, batch_size: int) -> Trial | None:
        """The next trial of the first search that has one; None where none may start now."""
        for search in self._by_seed.values():
            if (trial := search.start(batch_size)) is not None:
                return trial
        return None

    def end(self, result: TrialResult) -> None:
        """Take a result, and keep what is final by it for the record."""
        for final in self._by_seed[result.trial.seed].end(result):
            self._recorder.keep(final)

    def release(self, trial: Trial) -> None:
        """Put back an unfinished trial, so that it can start again."""
        self._by_seed[trial.seed].release(trial)

    def startable(self, batch_size: int) -> bool:
        """Tell whether a trial may start now."""
        return any(search.startable(batch_size) for search in self._by_seed.values())

    def running(self, batch_size: int) -> bool:
        """Tell whether a trial was started and has not ended."""
        return any(search.running(batch_size) for search in self._by_seed.values())

    def remaining_steps(self, batch_size: int) -> int:
        """Trial-steps of trials that have not ended, at most, if nothing more diverges."""
        return sum(search.remaining_steps(batch_size) for search in self._by_seed.values())

    @property
    def wanted(self) -> int:
        """Trials that are to count, over all searches and batch sizes."""
        return self.study.trials * len(self._by_seed) * len(self.study.batch_sizes)

    @property
    def complete(self) -> int:
        """Trials that are COMPLETE or STOPPED; of a search and batch size at most those wanted."""
        return sum(
            min(search.count(Status.COMPLETE, b) + search.count(Status.STOPPED, b), most)
            for most in (self.study.trials,)
            for search in self._by_seed.values()
            for b in self.study.batch_sizes
        )

    @property
    def infeasible(self) -> int:
        """Trials that diverged."""
        return sum(search.count(Status.INFEASIBLE) for search in self._by_seed.values())
