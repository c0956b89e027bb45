"""From a data set to a predictor and a report, within a budget.

    outcome = automl(Asked("digits", Budget.parse("1min")), "runs/automl-digits")

1. The source is split by class, checked for leakage and balance, prepared by training examples.
2. A plan: batch size by measured throughput and memory, epochs by what the budget holds.
3. Rounds of Hyperband over families, architectures and the preset's hyperparameters.
4. The best trials are trained again to their best epochs; ensemble selection weighs them on
   validation; the predictor is saved.
5. One evaluation on the test split, a verdict and a page.

The folder is a procedure's (experiments/procedures/procedure.py), with ``plan.json``,
``spent.json``, the search's record ``01-search`` and the predictor ``model``. Killed at any moment
the same command goes on: rounds that are recorded stay, seconds spent before count.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.procedures.automl.baselines import baselines
from experiments.procedures.automl.clock import Clock, Spent
from experiments.procedures.automl.data import Examples, split_source
from experiments.procedures.automl.ending import Chosen, chosen, score, untrained
from experiments.procedures.automl.limits import TimeLimit, TrialLimit
from experiments.procedures.automl.page import Result, said_of, write_rehearsal
from experiments.procedures.automl.plan import (
    LEAST_EXAMPLES,
    Plan,
    affordable,
    first_bracket,
    measured,
    planned,
    trials_of_round,
)
from experiments.procedures.budget import Budget, Cost
from experiments.procedures.outcome import Outcome, conclude
from experiments.procedures.procedure import VERDICT_FILE, Procedure, Running
from experiments.records.files import RecordError, disk_errors, write_whole
from experiments.records.schema import SCHEMA_VERSION
from experiments.records.seal import read_json, sealed_json
from experiments.runner import predict
from experiments.runner.predict import module_of
from experiments.runner.search import Found, run_search
from experiments.runner.search_asked import task_of
from experiments.runner.search_driver import Limit
from experiments.runtime.compilation import switched
from experiments.spec.families import TRACED, preset_of, space_of
from experiments.spec.user_search import UserSearch
from workloads.datasets.sources import read_source

PLAN_FILE = "plan.json"
MOST_ENDING = 0.25
"""Share of a budget in time that training the ensemble's members again may take."""
MOST_MEASURING = 0.1
"""Share that measuring batch sizes may have taken where another one is measured."""
MARGIN = 1.5
"""Over what was measured of the ending: a machine is not equally fast at every moment."""
INTERPRETER_SECONDS = 0.5
"""Of a process, before and after what it can measure of itself."""


@dataclasses.dataclass(frozen=True)
class Asked:
    """A question to an automl.

    Attributes:
      source: a name or a path (`workloads.datasets.sources.read_source`).
      budget: in time, or in trials.
      target: the column of a CSV that is predicted.
      seed: of the split, the points and the training.
      data_dir: folder of the files of a name.
      baselines: compare with scikit-learn's classifiers.
    """

    source: str
    budget: Budget
    target: str | None = None
    seed: int = 0
    data_dir: str | None = None
    baselines: bool = False

    def __post_init__(self) -> None:
        if not self.budget or self.budget.unit == "steps":
            raise ValueError(f"--budget must be a time or trials (10min, 40trials), got "
                             f"{self.budget}")  # fmt: skip

    @property
    def seconds(self) -> float | None:
        """Of a budget in time; None of one in trials."""
        per = {"s": 1.0, "min": 60.0, "h": 3600.0}.get(self.budget.unit)
        return None if per is None else per * float(self.budget.amount or 0)


def automl(
    asked: Asked,
    folder: Path | str,
    *,
    clock: Clock = time.monotonic,
    began: float | None = None,
    workers: int | None = None,
    show: bool = False,
    say: Callable[[str], None] = lambda line: None,
    warn: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Search, choose, save and test; `experiments.runner.predict.load` loads the predictor.

    Args:
      asked: the question.
      folder: made where it does not exist.
      clock: counts seconds; a test's stands still.
      began: by ``clock``, the moment from which time counts; now where None.
      workers: trials trained at a time.
      show: print every trial beside the best so far.
      say, warn: take a line.

    Raises:
      ValueError, DataError: bad input, or a budget too short for one trial; nothing is written.
      RecordError: the folder holds something else, or the same with other data.
      StudyError: no trial has a value.
    """
    folder = Path(folder)
    spent = Spent(folder, clock, began)
    source = read_source(asked.source, asked.target, asked.data_dir)
    examples = split_source(source, asked.seed)
    question = {
        "source": asked.source,
        "target": asked.target,
        "data": source.checksum,
        "budget": str(asked.budget),
        "seed": asked.seed,
    }
    procedure = Procedure("automl", folder, question, Running(say=say))
    if (folder / VERDICT_FILE).exists():
        return _over(folder, say)
    work = _Work(asked, examples, folder, spent, clock=clock, say=say)
    with switched():
        plan = work.recorded_plan() or work.plan()
        with procedure, spent.kept():
            work.begin(plan)
            work.tell(plan)
            found = run_search(
                work.search(plan),
                procedure.stage("search"),
                workers=workers,
                show=show,
                warn=warn,
                limit=work.limit(plan),
            )
            best = work.choose(found, plan)
            predict.save(best.predictor, folder)
            return work.conclude(procedure, plan, found, best)


class _Work:
    """The stages of one automl."""

    def __init__(
        self,
        asked: Asked,
        examples: Examples,
        folder: Path,
        spent: Spent,
        *,
        clock: Clock,
        say: Callable[[str], None],
    ):
        self.asked, self.examples, self.folder = asked, examples, folder
        self.spent, self.clock, self.say = spent, clock, say
        self.ending_seconds = 0.0

    # The plan.

    def recorded_plan(self) -> Plan | None:
        """That of an earlier process."""
        if not (self.folder / PLAN_FILE).exists():
            return None
        held = read_json(self.folder / PLAN_FILE, "the plan of an automl")
        try:
            plan = Plan(**{f.name: held[f.name] for f in dataclasses.fields(Plan)})
        except KeyError as error:
            raise RecordError(f"{self.folder / PLAN_FILE} lacks the field {error}") from error
        if self.asked.seconds is not None:
            self.rehearse(plan)
        return plan

    def plan(self) -> Plan:
        """A new one; ValueError where the budget is too short for one trial."""
        total = self.asked.seconds
        if total is None:
            return planned(self.examples, self.asked.budget)
        preset = preset_of(total)
        first = Plan(preset.level, self.batch_size, 1, "")
        task, _ = task_of(self.search(first), None)
        plan = measured(self.examples, preset, task, self.clock, MOST_MEASURING * total)
        self.rehearse(plan)
        spent = self.spent()
        left = total - spent - self.ending_seconds - INTERPRETER_SECONDS
        train = self.examples.size("train")
        training = left * (1 - MOST_ENDING) - 2 * plan.compile_seconds
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
    def batch_size(self) -> int:
        """To begin measuring with."""
        return max(1, min(32, self.examples.size("train") // 16))

    def rehearse(self, plan: Plan) -> None:
        """Write a page and a predictor of an untrained net to a folder that goes again: what that
        takes is kept in reserve."""
        for _ in range(2):  # the first time imports and compiles, the second is the price
            began = self.clock()
            write_rehearsal(untrained(self.examples, plan), self.examples)
            self.ending_seconds = MARGIN * (self.clock() - began)

    def begin(self, plan: Plan) -> None:
        """Write the plan, once, and take as many examples as it says."""
        self.examples = self.examples.limited(plan.train_examples, self.asked.seed)
        if not (self.folder / PLAN_FILE).exists():
            content = {"schema_version": SCHEMA_VERSION, **plan.to_json()}
            with disk_errors(self.folder):
                write_whole(self.folder / PLAN_FILE, sealed_json(content))

    def tell(self, plan: Plan) -> None:
        """Say what is done with what."""
        sizes = ", ".join(f"{self.examples.size(s):,} {s}" for s in self.examples.splits)
        self.say(f"{self.examples.source.about}: {sizes}; {self.examples.preparation.describe()}")
        for line in self.examples.noted:
            self.say(line)
        self.say(f"plan: {plan.reason}")

    # The search.

    def search(self, plan: Plan) -> UserSearch:
        """The search as it is recorded."""
        classes = len(self.examples.classes)

        def build(values: dict[str, Any]) -> Any:
            return module_of(values, classes)

        preset = plan.preset
        return UserSearch(
            space_of(preset, self.examples.shape),
            build=build,
            data={split: self.examples.splits[split] for split in ("train", "validation")},
            trials=first_bracket(plan.epochs),
            budget=plan.epochs,
            sampler="rounds",
            pruner="hyperband",
            metric=self.examples.metric,
            direction="min",
            optimizer=preset.optimizer,
            schedule=preset.schedule,
            batch_size=plan.batch_size,
            traced=TRACED,
            seed=self.asked.seed,
            name="search",
            question=f"Which net is best on {self.examples.source.name}?",
        )

    def limit(self, plan: Plan) -> Limit:
        """The end of the search."""
        total = self.asked.seconds
        if total is None:
            return TrialLimit(int(self.asked.budget.amount or 0), plan.epochs)
        members = plan.preset.members * self.member_seconds(plan)
        ending = self.ending_seconds + INTERPRETER_SECONDS + min(members, MOST_ENDING * total)
        ending += plan.compile_seconds  # a compilation under way cannot be stopped
        each = plan.epoch_seconds(self.examples.size("train"))
        trials = max(trials_of_round(plan.epochs), self.examples.size("validation"))
        return TimeLimit(self.spent, total - ending, each, trials, plan.epochs)

    def member_seconds(self, plan: Plan) -> float:
        """To train a member again, as far as is known beforehand."""
        return plan.epochs * plan.epoch_seconds(self.examples.size("train"))

    # The end.

    def choose(self, found: Found, plan: Plan) -> Chosen:
        """The predictor."""
        total, each = self.asked.seconds, self.member_seconds(plan)

        def more() -> bool:
            if total is None:
                return True
            ending = self.ending_seconds + INTERPRETER_SECONDS + MARGIN * each
            return self.spent() + ending <= total

        return chosen(found, self.examples, plan.preset.members, more, self.say)

    def conclude(self, procedure: Procedure, plan: Plan, found: Found, best: Chosen) -> Outcome:
        """The one evaluation on test, the verdict and the page."""
        shares = best.predictor.predict_proba(self.examples.raw_test)
        labels = self.examples.splits["test"][1]
        test = score(shares, labels)
        others = baselines(self.examples, self.asked.seed) if self.asked.baselines else []
        trials = found.table
        steps = int(found.searched.record.trials["steps"].sum())
        procedure.made = Cost(len(trials), steps, float(trials["seconds"].sum()))
        seconds = self.spent()
        result = Result(self.examples, plan, found.searched, best, shares, test, others)
        budget = str(self.asked.budget)
        said = said_of(result, folder=self.folder, budget=budget, seconds=seconds)
        spent = {"budget": budget, "seconds": round(seconds, 3)}
        return conclude(procedure, said, {**_values(result), **spent})


def _values(result: Result) -> dict[str, Any]:
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


def _over(folder: Path, say: Callable[[str], None]) -> Outcome:
    """Return the end of a finished automl: its test split is not looked at again."""
    held: Mapping[str, Any] = read_json(folder / VERDICT_FILE, "the verdict of an automl")
    say("this automl is over, and its test split was evaluated: nothing is done again")
    from experiments.analysis.next_step import NextStep
    from experiments.report.procedure import Noted, Said

    said = Said(
        held["title"], held["answer"],
        [Noted(one["text"], one["command"]) for one in held["findings"]],
        NextStep(**held["next"]),
    )  # fmt: skip
    return Outcome(folder, True, held["values"], said, folder / "report" / "index.html")
