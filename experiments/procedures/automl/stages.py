"""The stages of an automl after its plan: begin, end the search, choose, conclude."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.procedures.automl.baselines import baselines
from experiments.procedures.automl.ending import Chosen, chosen, score
from experiments.procedures.automl.limits import TimeLimit, TrialLimit
from experiments.procedures.automl.page import AutomlResult, said_of
from experiments.procedures.automl.plan import AutomlPlan, trials_of_round
from experiments.procedures.automl.planner import (
    INTERPRETER_SECONDS,
    MARGIN,
    MOST_ENDING,
    PLAN_FILE,
    Planner,
)
from experiments.procedures.budget import ProcedureCost
from experiments.procedures.outcome import ProcedureOutcome, conclude
from experiments.procedures.procedure import Procedure
from experiments.records.files import disk_errors, write_whole
from experiments.records.schema import SCHEMA_VERSION
from experiments.records.seal import sealed_json
from experiments.runner.search import SearchResult
from experiments.runner.search_driver import Limit


class Stages:
    """The stages of one automl.

    Args:
      planner: who planned it.
      plan: what it does.
      say: takes a line.
    """

    def __init__(self, planner: Planner, plan: AutomlPlan, say: Callable[[str], None]):
        self.asked, self.spent = planner.asked, planner.spent
        self.ending_seconds = planner.ending_seconds
        self.plan, self.say = plan, say
        self.examples = planner.examples.limited(plan.train_examples, self.asked.seed)

    def begin(self, folder: Path) -> None:
        """Write the plan, once; say what is done with what."""
        if not (folder / PLAN_FILE).exists():
            content = {"schema_version": SCHEMA_VERSION, **self.plan.to_json()}
            with disk_errors(folder):
                write_whole(folder / PLAN_FILE, sealed_json(content))
        about = self.examples.source.about
        self.say(f"{about}: {self.examples.sizes}; {self.examples.preparation.describe()}")
        for one in self.examples.remarks:
            self.say(f"{one.subject}: {one.text}")
        self.say(f"plan: {self.plan.reason}")

    def limit(self) -> Limit:
        """The end of the search."""
        total = self.asked.seconds
        if total is None:
            return TrialLimit(int(self.asked.budget.amount or 0), self.plan.epochs)
        members = self.plan.preset.members * self._member_seconds
        ending = self.ending_seconds + INTERPRETER_SECONDS + min(members, MOST_ENDING * total)
        ending += self.plan.compile_seconds  # a compilation under way cannot be stopped
        each = self.plan.epoch_seconds(self.examples.size("train"))
        trials = max(trials_of_round(self.plan.epochs), self.examples.size("validation"))
        return TimeLimit(self.spent, total - ending, each, trials, self.plan.epochs)

    @property
    def _member_seconds(self) -> float:
        """To train a member again, as far as is known beforehand."""
        return self.plan.epochs * self.plan.epoch_seconds(self.examples.size("train"))

    def choose(self, found: SearchResult) -> Chosen:
        """The predictor."""
        total, each = self.asked.seconds, self._member_seconds

        def more() -> bool:
            if total is None:
                return True
            ending = self.ending_seconds + INTERPRETER_SECONDS + MARGIN * each
            return self.spent() + ending <= total

        return chosen(found, self.examples, self.plan.preset.members, more, self.say)

    def conclude(self, procedure: Procedure, found: SearchResult, best: Chosen) -> ProcedureOutcome:
        """The one evaluation on test, the verdict and the page."""
        shares = best.predictor.predict_proba(self.examples.raw_test)
        labels = self.examples.splits["test"][1]
        test = score(shares, labels)
        seconds = self.spent()
        others = baselines(self.examples, self.asked.seed) if self.asked.baselines else []
        trials = found.table
        steps = int(found.searched.record.trials["steps"].sum())
        procedure.made = ProcedureCost(len(trials), steps, float(trials["seconds"].sum()))
        result = AutomlResult(self.examples, self.plan, found.searched, best, shares, test, others)
        budget = str(self.asked.budget)
        said = said_of(result, folder=procedure.folder, budget=budget, seconds=seconds)
        spent = {"budget": budget, "seconds": round(seconds, 3)}
        return conclude(procedure, said, {**_values(result), **spent})


def _values(result: AutomlResult) -> dict[str, Any]:
    best, test = result.best, result.test
    interval = test.interval
    return {
        "test_error": test.error,
        "test_error_interval": [interval.low, interval.high],
        "test_examples": test.examples,
        "test_cross_entropy": test.cross_entropy,
        "validation_error": best.validation.error,
        "validation_cross_entropy": best.validation.cross_entropy,
        "best_trial_validation_cross_entropy": best.best.cross_entropy,
        "nets": [
            {"name": net.name, "weight": net.weight, **dict(net.values)}
            for net in best.predictor.nets
        ],
        "batch_size": result.plan.batch_size,
        "epochs": result.plan.epochs,
        "baselines": [dataclasses.asdict(one) for one in result.others],
    }
