"""Members of an ensemble, trained from a record."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.diagnostics.ensemble_model import Member
from experiments.diagnostics.weight_averages import mean_parameters, recomputed_statistics
from experiments.runner.trained import OpenedRecord, Say, TrainedTrial, trained_to_best
from experiments.spec.errors import StudyError
from experiments.spec.trial import Trial
from experiments.training.layout import Execution
from experiments.training.population import Population, states_at
from experiments.training.state import TrainState, to_evaluate
from optimizers import OPTIMIZERS
from schedules.batch_size import examples_after, stretches
from workloads.datasets.base import read as read_examples
from workloads.datasets.base import size_of

_NEW = 1 << 20
"""Members that are trained anew have this index and the following, which no search gives."""


class MemberMaker:
    """Members of each kind, and the examples that training them takes.

    Args:
      ranked: rows of the trials that have a best step, the best first.
      size: of the ensemble.

    Attributes:
      examples: that training them took so far, beyond the record's.
    """

    def __init__(
        self,
        opened: OpenedRecord,
        ranked: Sequence[dict[str, Any]],
        size: int,
        say: Say,
        warn: Callable[[str], None],
    ) -> None:
        self.opened, self.ranked, self.size = opened, ranked, size
        self.say, self.warn = say, warn
        self.examples = 0

    def members(self, kind: str, best: TrainedTrial) -> list[Member]:
        """The members, the best trial among them but for an average."""
        if kind == "inits":
            return self._inits(best)
        if kind == "top":
            return self._top(best)
        if kind == "checkpoints":
            return self._checkpoints(best)
        return [self._average(best, self._checkpoints(best))]

    def _consumed(self, trial: Trial, steps: int) -> int:
        parts = stretches(self.opened.study.phases(trial.batch_size))
        return int(examples_after(parts, steps))

    def _side_by_side(self, trials: Sequence[Trial], steps: Sequence[int]) -> list[TrainState]:
        """States [members, ...] of trials of one batch size after each of these steps."""
        study, batch_size = self.opened.study, trials[0].batch_size
        program = self.opened.program(study.config("off"))
        packed = len(trials) > 1 and not OPTIMIZERS[study.optimizer].needs_value_fn
        if len(trials) > 1 and not packed:
            found = [self._side_by_side([trial], steps) for trial in trials]
            return [
                jax.tree.map(lambda *x: np.concatenate(x), *states)
                for states in zip(*found, strict=True)
            ]
        slots = 1 << (len(trials) - 1).bit_length()  # a pack's are a power of two
        execution = Execution("packed", slots) if packed else Execution("scan")
        population = Population(
            program, batch_size, execution, grid=study.grid, phases=study.phases(batch_size)
        )
        self.examples += len(trials) * self._consumed(trials[0], steps[-1])
        every = states_at(population, trials, steps)
        states = [jax.tree.map(lambda x: x[: len(trials)], one) for one in every]
        lost = np.flatnonzero(np.asarray(states[-1].diverged_at) > 0)
        if len(lost):
            raise StudyError(
                f"member {int(lost[0])} of the ensemble diverged at step "
                f"{int(np.asarray(states[-1].diverged_at)[lost[0]])}, where the best trial does not"
            )
        return states

    def _inits(self, best: TrainedTrial) -> list[Member]:
        others = [
            dataclasses.replace(best.trial, index=_NEW + k, identity="")
            for k in range(self.size - 1)
        ]
        self.say(
            f"training {len(others)} more initialisations of trial {best.name} side by side, "
            f"{best.step:,} steps each"
        )
        (states,) = self._side_by_side(others, [best.step])
        own = member_of(best.state, best, best.name)
        fresh = [
            member_of(_one(states, k), best, f"initialisation {k + 1} of trial {best.name}")
            for k in range(len(others))
        ]
        return [own, *fresh]

    def _top(self, best: TrainedTrial) -> list[Member]:
        found = [best]
        for row in self.ranked[1 : self.size]:
            found.append(trained_to_best(self.opened, row, warn=self.warn, say=self.say))
        self.examples += sum(self._consumed(one.trial, one.step) for one in found[1:])
        return [member_of(one.state, one, f"trial {one.name}") for one in found]

    def _checkpoints(self, best: TrainedTrial) -> list[Member]:
        length = best.trial.most_steps
        steps = sorted({math.ceil(x) for x in np.linspace(length / 2, length, self.size)})
        if len(steps) < self.size:
            raise ValueError(
                f"size must be at most {len(steps)} (whole steps in the second half of trial "
                f"{best.name}), got {self.size}"
            )
        self.say(f"training trial {best.name} again, {length:,} steps, for {self.size} checkpoints")
        states = self._side_by_side([best.trial], steps)
        return [
            member_of(_one(state, 0), best, f"trial {best.name} after {step} steps")
            for state, step in zip(states, steps, strict=True)
        ]

    def _average(self, best: TrainedTrial, members: Sequence[Member]) -> Member:
        params = mean_parameters([member.params for member in members])
        size = min(size_of(self.opened.split("train")), 1 << 14)
        examples = read_examples(self.opened.split("train"), np.arange(size))
        state = recomputed_statistics(
            best.config,
            params,
            members[-1].model_state,
            best.hyperparameters,
            examples,
            rows=max(2, best.trial.batch_size),
        )
        params, state = jax.device_get((params, state))
        name = f"the mean of {len(members)} checkpoints of trial {best.name}"
        return Member(params, state, dict(best.hyperparameters), name)


def _one(states: TrainState, k: int) -> TrainState:
    return jax.tree.map(lambda x: x[k], states)


def member_of(state: TrainState, trained: TrainedTrial, name: str) -> Member:
    """The parameters of a state as its evaluation reads them, on the host."""
    numbers = {n: jnp.asarray(value) for n, value in trained.hyperparameters.items()}
    params, model_state = jax.device_get(to_evaluate(trained.config, state, numbers))
    return Member(params, model_state, dict(trained.hyperparameters), name)
