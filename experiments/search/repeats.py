"""Configurations that were chosen beforehand, trained again: no search.

Every configuration is trained once. One that diverges is not replaced: how often that happens is
part of what is asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from experiments.search.record import Ended, Round
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import Status, Trial, TrialResult

FIRST_SEED = 2**40
"""Of the fresh seeds: above any that a study is given by hand."""


def fresh_seeds(count: int, taken: tuple[int, ...]) -> tuple[int, ...]:
    """The first ``count`` seeds from `FIRST_SEED` on that no search of the study has."""
    found: list[int] = []
    seed = FIRST_SEED
    while len(found) < count:
        if seed not in taken:
            found.append(seed)
        seed += 1
    return tuple(found)


class Repeats:
    """The repeats of one seed, as a search of which all trials are known beforehand.

    Not thread-safe: the coordinator holds its lock.

    Args:
      study: the question, with ``batch_sizes`` those that are repeated.
      seed: of initialisation, example order and dropout, which derive from it and the trial's
        index; a fresh one, or that of a trial which is to be trained as it was.
      checksum: of the dataset.
      chosen: batch size -> index -> the hyperparameters of the configurations that were ever
        chosen; that of the highest index is repeated.
      ended: (batch size, index) -> how it ended, of repeats recorded already.
    """

    def __init__(
        self,
        study: ResolvedStudy,
        seed: int,
        checksum: str,
        chosen: Mapping[int, Mapping[int, Mapping[str, float]]],
        ended: Mapping[tuple[int, int], Ended],
    ):
        self.study, self.seed, self._checksum = study, seed, checksum
        self._chosen = chosen
        self._ended = {b: {i: how for (size, i), how in ended.items() if size == b} for b in chosen}
        self._running: set[int] = set()

    def ended(self, batch_size: int) -> dict[int, Ended]:
        """Index -> how it ended."""
        return self._ended[batch_size]

    def count(self, status: Status, batch_size: int | None = None) -> int:
        """Count the repeats of the chosen configurations that ended so."""
        sizes = self.study.batch_sizes if batch_size is None else (batch_size,)
        found = (self._ended[b].get(self._last(b)) for b in sizes)
        return sum(how is not None and how.status == status for how in found)

    def proposed(self, batch_size: int) -> int:
        """Count the configurations that were ever chosen."""
        return len(self._chosen[batch_size])

    def running(self, batch_size: int) -> bool:
        """Tell whether the repeat was started and has not ended."""
        return batch_size in self._running

    def startable(self, batch_size: int) -> bool:
        """Tell whether the repeat may start now."""
        ended = self._last(batch_size) in self._ended[batch_size]
        return not ended and batch_size not in self._running

    def unfinished(self, batch_size: int) -> bool:
        """Tell whether the repeat has not ended."""
        return self.startable(batch_size) or self.running(batch_size)

    def remaining_steps(self, batch_size: int) -> int:
        """Steps of the repeat if it has not ended, at most."""
        return self.study.length(batch_size) if self.unfinished(batch_size) else 0

    def trial(self, batch_size: int, index: int) -> Trial:
        """The repeat of a configuration by its index.

        Where the study's trials stop, it ends at the goal; nothing races.
        """
        values = self._chosen[batch_size][index]
        trial = self.study.trial_at(batch_size, self.seed, index, values, self._checksum)
        return dataclasses.replace(trial, stops=self.study.stop != "never")

    def start(self, batch_size: int) -> Trial | None:
        """The repeat, or None where it was started already."""
        if not self.startable(batch_size):
            return None
        self._running.add(batch_size)
        return self.trial(batch_size, self._last(batch_size))

    def release(self, trial: Trial) -> None:
        """Put back an unfinished repeat, so that it can start again."""
        self._running.discard(trial.batch_size)

    def end(self, result: TrialResult) -> list[TrialResult]:
        """Take a result, which is final."""
        self._running.discard(result.trial.batch_size)
        ended = Ended.of(result, self.study.goal)
        self._ended[result.trial.batch_size][result.trial.index] = ended
        return [result]

    def _last(self, batch_size: int) -> int:
        return max(self._chosen[batch_size])

    # Nothing is proposed.

    def due(self) -> dict[int, int]:
        """Nothing: all is known beforehand."""
        return {}

    def propose(self, counts: Mapping[int, int]) -> Round:
        """No round is ever due."""
        raise AssertionError(f"a repeat proposes nothing, asked for {dict(counts)}")

    def add(self, found: Round) -> None:
        """No round is ever recorded."""
        raise AssertionError(f"a repeat has no rounds, got round {found.number}")
