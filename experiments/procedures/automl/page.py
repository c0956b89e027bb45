"""The words, tables and figures of an automl's page."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl

from experiments.analysis.next_step import NextStep
from experiments.analysis.search_record import Searched
from experiments.procedures.automl.baselines import Baseline
from experiments.procedures.automl.data import Examples
from experiments.procedures.automl.ending import Chosen, Score
from experiments.procedures.automl.nets_shown import (
    in_words,
    layers_figure,
    layers_table,
    nets_table,
)
from experiments.procedures.automl.plan import AutomlPlan
from experiments.report.figure import Figure, values
from experiments.report.procedure import Noted, Said, write_procedure_report
from experiments.report.search_page import (
    curves_figure,
    hyperparameters_figure,
    metric_name,
    progress_figure,
    rounds_table,
    trials_table,
)
from experiments.report.tables import Table
from experiments.runner.predict import Predictor, save
from experiments.spec.families import FAMILIES
from workloads.datasets.labels import label

MOST_CLASSES = 30
"""Drawn in the figure of confusions."""


@dataclasses.dataclass(frozen=True)
class AutomlResult:
    """All that was found.

    Attributes:
      examples, plan, searched, best: as they came out.
      shares: [n, classes] probabilities of the test split.
      test: their worth.
      others: what it is compared with.
    """

    examples: Examples
    plan: AutomlPlan
    searched: Searched
    best: Chosen
    shares: np.ndarray
    test: Score
    others: Sequence[Baseline]


def said_of(result: AutomlResult, *, folder: Path, budget: str, seconds: float) -> Said:
    """All that is shown of an automl in ``folder``, with the budget asked for and spent."""
    examples, searched = result.examples, result.searched
    figures = [progress_figure(searched), curves_figure(searched), hyperparameters_figure(searched)]
    classes = [label(one) for one in examples.classes]
    if len(classes) <= MOST_CLASSES:
        labels = examples.splits["test"][1]
        figures.append(confusions(labels, result.shares.argmax(axis=1), classes))
    lead = result.best.predictor.nets[0]
    figures.insert(0, layers_figure(lead, len(classes), examples.shape))
    tables = [scores_table(result.test, result.others), nets_table(result.best), layers_table(lead)]
    return Said(
        title=f"automl: {examples.source.name}",
        answer=_answer(result),
        noted=[Noted(f"{one.subject}: {one.text}") for one in examples.remarks if one.doubtful],
        next=NextStep("", "The predictor, with the preparation of its inputs, from Python:", "",
                      _snippet(folder)),
        facts={**_facts(result), "Budget": f"{budget}; {seconds:.1f} s were spent, in earlier "
               "processes too, before this page"},
        tables=[*tables, rounds_table(searched), trials_table(searched)],
        figures=figures,
    )  # fmt: skip


def write_rehearsal(predictor: Predictor, examples: Examples, shares: np.ndarray) -> None:
    """Save, and write a page on the validation split, in a folder that goes again."""
    labels = examples.splits["validation"][1]
    names = [label(one) for one in predictor.classes]
    one = confusions(labels, shares.argmax(axis=1), names[:MOST_CLASSES])
    # Each a file of its own: pictures are written side by side.
    figures = [dataclasses.replace(one, name=f"rehearsal-{i}") for i in range(4)]
    figures.append(layers_figure(predictor.nets[0], len(names), examples.shape))
    said = Said("rehearsal", "", [], NextStep("", "", "", ""), figures=figures,
                tables=[layers_table(predictor.nets[0])])  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        save(predictor, Path(folder))
        write_procedure_report(folder, said)


def _answer(result: AutomlResult) -> str:
    test, nets = result.test, result.best.predictor.nets
    interval = test.interval
    many = f"an ensemble of {len(nets)} nets" if len(nets) > 1 else "one net"
    text = (
        f"Test error {test.error:.2%} ({test.errors} of {test.examples:,}; exact 95 % interval "
        f"{interval.low:.2%} to {interval.high:.2%}) with {many}, the heaviest of them "
        f"{in_words(nets[0])}. {metric_name(result.searched).capitalize()} chose among "
        f"{result.searched.ended} trials; the test split was looked at once, at the end."
    )
    if not result.others:
        return text
    words = ", ".join(f"{one.name} {one.errors / test.examples:.2%}" for one in result.others)
    least = min(one.errors for one in result.others)
    verdict = "fewer errors than" if test.errors < least else "more errors than"
    if test.errors == least:
        verdict = "as many errors as"
    return f"{text} scikit-learn's defaults: {words}; here {verdict} the better of them."


def _snippet(folder: Path) -> str:
    return (
        "from experiments.runner.predict import load\n\n"
        f"predictor = load({str(folder)!r})\n"
        "predictor.predict(inputs)        # as the source gives them\n"
        "predictor.predict_proba(inputs)  # [n, classes], in the order of predictor.classes\n"
    )


def _facts(result: AutomlResult) -> dict[str, str]:
    examples, plan, best = result.examples, result.plan, result.best
    preset = plan.preset
    names = getattr(result.searched.space.ranges["family"], "values", ())
    own = "the source's own test split, the rest" if examples.source.test else "all"
    fitted = "by the training split alone" if examples.folds is None else "without the test split"
    decides = metric_name(result.searched)
    if examples.metric != "classification_error":
        decides += ": so few examples hardly tell errors apart"
    return {
        "Data": f"{examples.source.about}; sha256 {examples.source.checksum[:16]}",
        "Splits": f"{examples.sizes}; {own} split by class",
        **{one.subject: one.text for one in examples.remarks if not one.doubtful},
        "Preparation": f"{examples.preparation.describe()}, {fitted}",
        "Families": "; ".join(f"{name}: {FAMILIES[name].meaning}" for name in names),
        "Why this batch size and length": plan.reason,
        "Why this optimizer and schedule": f"the preset {preset.level}, for budgets from "
        f"{preset.least_seconds:g} s or {preset.least_trials} trials on: {preset.parts}",
        "What decides": decides,
        "Ensemble": f"selection with replacement on validation among the best {best.candidates} "
        f"trials: cross-entropy {best.validation.cross_entropy:.4g}, of the best trial alone "
        f"{best.best.cross_entropy:.4g}",
        "Trained on": best.trained_on,
    }


def scores_table(test: Score, others: Sequence[Baseline]) -> Table:
    """Errors on test."""
    scores = [("this", test, "", "")]
    scores += [
        (one.name, Score(one.errors, test.examples, one.cross_entropy), f"{one.seconds:.1f}",
         one.note)
        for one in others
    ]  # fmt: skip
    rows = tuple(
        (name, str(s.errors), f"{s.error:.2%}", f"{s.interval.low:.2%} to {s.interval.high:.2%}",
         f"{s.cross_entropy:.4g}", seconds, note)
        for name, s, seconds, note in scores
    )  # fmt: skip
    columns = ("predictor", "errors", "error", "exact 95 % interval", "cross-entropy", "seconds",
               "note")  # fmt: skip
    return Table("test", f"On {test.examples:,} test examples", columns, rows,
                 (False, True, True, True, True, True, False))  # fmt: skip


def confusions(labels: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> Figure:
    """Test examples by their class and the predicted one.

    Args:
      labels, predicted: [n] whole numbers.
      classes: names, in order.
    """
    count = len(classes)
    table = np.zeros((count, count), int)
    within = (labels < count) & (predicted < count)
    np.add.at(table, (labels[within], predicted[within]), 1)
    cells = pl.DataFrame(
        [(classes[i], classes[j], int(table[i, j])) for i in range(count) for j in range(count)],
        schema={"class": pl.String, "predicted": pl.String, "examples": pl.Int64},
        orient="row",
    )
    names = list(classes)
    base = alt.Chart(values(cells.filter(pl.col("examples") > 0))).encode(
        x=alt.X("predicted:N", sort=names, scale=alt.Scale(domain=names),
                axis=alt.Axis(labelAngle=0)),
        y=alt.Y("class:N", sort=names, scale=alt.Scale(domain=names)),
    )  # fmt: skip
    right = alt.datum["class"] == alt.datum["predicted"]
    colour = alt.condition(right, alt.value("#e4ecf3"), alt.value("#f6ddc4"))
    side = max(160, min(26 * count, 560))
    chart = alt.layer(
        base.mark_rect().encode(color=colour),
        base.mark_text().encode(text="examples:Q"),
    ).properties(width=side, height=side)
    return Figure(
        "confusions",
        "Test examples by class",
        "A row is a class, a column what was predicted; off the diagonal are the errors.",
        chart,
        cells,
    )
