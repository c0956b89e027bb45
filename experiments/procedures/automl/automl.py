"""From a data set to a predictor and a report, within a budget.

    outcome = automl(AutomlRequest("digits", Budget.parse("1min")), "runs/automl-digits")

1. The source is split by class, checked for leakage and balance, prepared by training examples.
2. A plan: batch size by measured throughput and memory, epochs by what the budget holds.
3. Rounds of Hyperband over families, architectures and the preset's hyperparameters.
4. The best trials are trained again to their best epochs; ensemble selection weighs them on
   validation; the chosen ones are trained once more with the validation examples (refit.py); the
   predictor is saved.
5. One evaluation on the test split, a verdict and a page.

The folder is a procedure's (experiments/procedures/procedure.py), with ``plan.json``,
``spent.json``, the search's record ``01-search`` and the predictor ``model``. Killed at any moment
the same command goes on: rounds that are recorded stay, seconds spent before count.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from experiments.procedures.automl.asked import AutomlRequest, search_of
from experiments.procedures.automl.clock import Clock, Spent
from experiments.procedures.automl.data import split_source
from experiments.procedures.automl.planner import Planner
from experiments.procedures.automl.stages import Stages
from experiments.procedures.outcome import ProcedureOutcome
from experiments.procedures.procedure import VERDICT_FILE, Procedure, Running
from experiments.records.seal import read_json
from experiments.runner import predict
from experiments.runner.search import run_search
from experiments.runtime.compilation import switched
from workloads.datasets.sources import read_source


def automl(
    asked: AutomlRequest,
    folder: Path | str,
    *,
    clock: Clock = time.monotonic,
    began: float | None = None,
    workers: int | None = None,
    show: bool = False,
    say: Callable[[str], None] = lambda line: None,
    warn: Callable[[str], None] = lambda line: None,
) -> ProcedureOutcome:
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
    planner = Planner(asked, examples, spent, clock)
    with switched():
        plan = planner.plan(folder)
        stages = Stages(planner, plan, say)
        with procedure, spent.kept():
            stages.begin(folder)
            found = run_search(
                search_of(asked, stages.examples, plan),
                procedure.stage("search"),
                workers=workers,
                show=show,
                warn=warn,
                limit=stages.limit(),
            )
            best = stages.choose(found, workers)
            predict.save(best.predictor, folder)
            return stages.conclude(procedure, found, best)


def _over(folder: Path, say: Callable[[str], None]) -> ProcedureOutcome:
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
    return ProcedureOutcome(folder, True, held["values"], said, folder / "report" / "index.html")
