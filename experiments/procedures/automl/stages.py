"""The stages of an automl after its plan: begin, end the search, choose, conclude."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.procedures.automl.baselines import baselines
from experiments.procedures.automl.ending import Chosen, chosen, score
from experiments.procedures.automl.limits import MARGIN, EndingTime, TimeLimit, TrialLimit
from experiments.procedures.automl.page import AutomlResult, said_of
from experiments.procedures.automl.plan import AutomlPlan, trials_of_round
from experiments.procedures.automl.planner import (
    INTERPRETER_SECONDS,
    PLAN_FILE,
    Planner,
    most_ending,
)
from experiments.procedures.automl.refit import refitted
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
        members = self.plan.preset.members * self._member_seconds * (1 + self._growth)
        ending = self.ending_seconds + INTERPRETER_SECONDS
        ending += min(members, most_ending(self.examples) * total)
        ending += self.plan.compile_seconds  # a compilation under way cannot be stopped
        each = self.plan.epoch_seconds(self.examples.size("train"))
        trials = max(trials_of_round(self.plan.epochs), self.examples.size("validation"))
        return TimeLimit(self.spent, total - ending, each, trials, self.plan.epochs)

    @property
    def _member_seconds(self) -> float:
        """To train a member again, as far as is known beforehand."""
        return self.plan.epochs * self.plan.epoch_seconds(self.examples.size("train"))

    @property
    def _growth(self) -> float:
        """Steps of a refit over those before; 0 where the ending has no time for one net's."""
        growth, total = self.examples.growth, self.asked.seconds
        if total is None:
            return growth
        one = MARGIN * self._member_seconds * (1 + growth)
        return growth if one <= most_ending(self.examples) * total else 0.0

    def choose(self, found: SearchResult, workers: int | None) -> Chosen:
        """The predictor."""
        total, until = self.asked.seconds, math.inf
        if total is not None:
            until = total - self.ending_seconds - INTERPRETER_SECONDS
        time = EndingTime(self.spent, until, self._member_seconds, self._growth)
        best = chosen(found, self.examples, self.plan.preset.members, time, self.say)
        best = refitted(found, best, self.examples, time, workers=workers)
        self.say(f"trained on {best.trained_on}")
        return best

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
            {"name": net.name, "weight": net.weight, "trained_on": net.examples, **net.values}
            for net in best.predictor.nets
        ],
        "trained_on": best.trained_on,
        "batch_size": result.plan.batch_size,
        "epochs": result.plan.epochs,
        "baselines": [dataclasses.asdict(one) for one in result.others],
    }
