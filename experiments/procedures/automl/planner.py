"""The planner of an automl: measures, rehearses the ending, keeps in reserve what that takes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from experiments.procedures.automl.asked import AutomlRequest, search_of
from experiments.procedures.automl.clock import Clock, Spent
from experiments.procedures.automl.data import Examples
from experiments.procedures.automl.ending import untrained, validated
from experiments.procedures.automl.limits import MARGIN
from experiments.procedures.automl.page import write_rehearsal
from experiments.procedures.automl.plan import (
    LEAST_EXAMPLES,
    AutomlPlan,
    affordable,
    measured,
    planned,
)
from experiments.records.files import RecordError
from experiments.records.seal import read_json
from experiments.runner.search_asked import task_of
from experiments.spec.families import preset_of

PLAN_FILE = "plan.json"
MOST_ENDING = 0.25
"""Share of a budget in time that training the ensemble's members again may take."""
MOST_REFITTING = 0.15
"""Further share for training those that were chosen once more, on the validation examples too."""
MOST_MEASURING = 0.1
"""Share that measuring batch sizes may have taken where another one is measured."""
INTERPRETER_SECONDS = 0.5
"""Of a process, before and after what it can measure of itself."""


def most_ending(examples: Examples) -> float:
    """Share of a budget in time that training members again, and a refit of them, may take."""
    return MOST_ENDING + (MOST_REFITTING if examples.growth else 0.0)


class Planner:
    """Plans an automl.

    Args:
      asked, examples: the question and its data.
      spent: seconds by now, of all processes.
      clock: counts seconds.

    Attributes:
      ending_seconds: expected of the page and the predictor; 0 until it was rehearsed.
    """

    def __init__(self, asked: AutomlRequest, examples: Examples, spent: Spent, clock: Clock):
        self.asked, self.examples, self.spent, self.clock = asked, examples, spent, clock
        self.ending_seconds = 0.0

    def plan(self, folder: Path) -> AutomlPlan:
        """That of an earlier process in ``folder``, or a new one.

        Raises:
          ValueError: the budget is too short for one trial.
        """
        return self._recorded(folder / PLAN_FILE) or self._new()

    def _recorded(self, path: Path) -> AutomlPlan | None:
        """That of an earlier process."""
        if not path.exists():
            return None
        held = read_json(path, "the plan of an automl")
        try:
            plan = AutomlPlan(**{f.name: held[f.name] for f in dataclasses.fields(AutomlPlan)})
        except KeyError as error:
            raise RecordError(f"{path} lacks the field {error}") from error
        if self.asked.seconds is not None:
            self._rehearse(plan)
        return plan

    def _new(self) -> AutomlPlan:
        """A new one; ValueError where the budget is too short for one trial."""
        total = self.asked.seconds
        if total is None:
            return planned(self.examples, self.asked.budget)
        preset = preset_of(total)
        first = AutomlPlan(preset.level, self._batch_size, 1, "")
        task, _ = task_of(search_of(self.asked, self.examples, first), None)
        plan = measured(self.examples, preset, task, self.clock, MOST_MEASURING * total)
        self._rehearse(plan)
        spent = self.spent()
        left = total - spent - self.ending_seconds - INTERPRETER_SECONDS
        train = self.examples.size("train")
        training = left * (1 - most_ending(self.examples)) - 2 * plan.compile_seconds
        longest = affordable(plan, train, training)
        least = dataclasses.replace(plan, train_examples=min(train, LEAST_EXAMPLES))
        epoch = plan.epoch_seconds(least.train_examples)
        if longest is None and left > plan.compile_seconds + 2 * epoch:
            longest = dataclasses.replace(least, reason=f"{plan.reason}; 1 epoch")
        if longest is None:
            needed = spent + self.ending_seconds + plan.compile_seconds + 2 * epoch
            raise ValueError(
                f"--budget {self.asked.budget} is too short for one trial: about {needed:.0f} s "
                f"are needed ({spent:.0f} s to read, compile and measure, "
                f"{plan.compile_seconds + 2 * epoch:.1f} s to train one epoch, "
                f"{self.ending_seconds:.1f} s to write the report)"
            )
        return longest

    @property
    def _batch_size(self) -> int:
        """To begin measuring with."""
        return max(1, min(32, self.examples.size("train") // 16))

    def _rehearse(self, plan: AutomlPlan) -> None:
        """Predict with an untrained net, write its page and predictor to a folder that goes again:
        what that takes is kept in reserve."""
        net = untrained(self.examples, plan)
        tested = self.examples.size("test") / self.examples.size("validation")
        validated_again = bool(self.examples.growth)
        of_members = plan.preset.members * (1 + validated_again + tested)
        for _ in range(2):  # the first time imports and compiles, the second is the price
            began = self.clock()
            shares = validated(net.nets[0], self.examples)
            predicted = self.clock()
            write_rehearsal(net, self.examples, shares)
            written = self.clock()
        seconds = (written - predicted) + of_members * (predicted - began)
        self.ending_seconds = MARGIN * seconds
