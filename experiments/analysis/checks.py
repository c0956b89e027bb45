"""A verdict check by check: what was found, how grave it is, on what it rests, what answers it."""

from __future__ import annotations

import dataclasses
import re
import shlex
from typing import Any, Literal

from experiments.analysis import curve_findings as curves
from experiments.analysis import findings as found
from experiments.analysis import next_step as steps
from experiments.analysis.next_step import Finding, NextStep
from experiments.analysis.question import Question
from experiments.analysis.verdict import Verdict
from optimizers import OPTIMIZERS

Severity = Literal["high", "medium", "low"]
_SEVERITY: dict[type[Finding], Severity] = {
    found.Shortfall: "high",
    found.Unreached: "high",
    found.EdgeOptimum: "high",
    found.MostlyInfeasible: "high",
    found.PoorFit: "high",
    curves.TrainingRises: "high",
    curves.UnstableAbove: "medium",
    curves.Overfitting: "medium",
    curves.LateVariance: "medium",
    curves.TooFewGood: "medium",
    curves.UnequalTuning: "medium",
    curves.MixedBudgets: "medium",
    found.MostlyClipped: "medium",
    found.UntunedSmallest: "medium",
    found.NonMonotone: "medium",
    found.BestStep: "medium",
    found.Inconclusive: "medium",
    found.OneSearch: "low",
}
"""high: the answer as it stands may be wrong; medium: it can be better; low: how sure it is."""
CHECKS = tuple(kind.__name__ for kind in _SEVERITY)
"""Every check, by the name of its finding."""


@dataclasses.dataclass(frozen=True)
class StudyCheck:
    """One finding.

    Attributes:
      check: its name, as ``edge_optimum``.
      severity: "high", "medium" or "low".
      sentence: what was seen and what it means.
      evidence: the numbers it rests on, by name.
      next: what answers it.
    """

    check: str
    severity: Severity
    sentence: str
    evidence: dict[str, Any]
    next: NextStep

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**dataclasses.asdict(self), "next": dataclasses.asdict(self.next)}


def checks_of(question: Question, verdict: Verdict) -> list[StudyCheck]:
    """The findings of a verdict, the gravest first."""
    order = ("high", "medium", "low")
    checks = [
        StudyCheck(
            check_name(type(finding)),
            severity(finding),
            finding.sentence,
            dataclasses.asdict(finding),
            answer_to(question, finding),
        )
        for finding in verdict.findings
    ]
    return sorted(checks, key=lambda check: order.index(check.severity))


def check_name(kind: type) -> str:
    """'EdgeOptimum' -> 'edge_optimum'."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def severity(finding: Finding) -> Severity:
    """Severity of a finding; training that ends at its best early is only waste."""
    if isinstance(finding, found.BestStep) and finding.when == "early":
        return "low"
    return _SEVERITY[type(finding)]


def answer_to(question: Question, finding: Finding) -> NextStep:
    """The command that answers one finding alone; "" where the trials were imported."""
    if question.imported:
        return steps.next_step(question, [finding])
    if isinstance(finding, found.EdgeOptimum) and finding.proposed is None:
        return NextStep("", "Nothing legal lies beyond that end.")
    subject, size = _subject(question), _sizes(finding)
    if isinstance(finding, found.BestStep):
        return _another_length(question, finding)
    if isinstance(finding, found.MostlyInfeasible):
        return steps.narrower(question, "A range that reaches less far into instability.")
    if isinstance(finding, found.MostlyClipped):
        return NextStep(
            shlex.join(["batchscale", "clip-threshold", "--study", subject, *size]),
            "It says whether a lower rate does as well, and which threshold clips few steps.",
        )
    if isinstance(finding, (curves.UnstableAbove, curves.TrainingRises)):
        return NextStep(
            shlex.join(["batchscale", "diagnose", subject, *size]),
            "It finds the edge of stability and the remedy that moves it.",
        )
    if isinstance(finding, curves.Overfitting):
        return _regularized(question)
    if isinstance(finding, curves.LateVariance):
        part = ("averaging", "ema") if question.averaging == "none" else ("schedule", "linear")
        return NextStep(
            f"{steps.run_again(question)} --{part[0]} {part[1]}",
            "Averaged parameters or a decaying rate calm the end of training.",
        )
    if isinstance(finding, (curves.TooFewGood, curves.UnequalTuning)):
        return NextStep(
            steps.run_again(question, trials=2 * question.trials),
            "More trials in every search, beside those there are.",
        )
    if isinstance(finding, curves.MixedBudgets):
        reason = "Every batch size as long as the budgets need, none longer."
        return steps.another_file(question, "equal", "equal budgets", reason, train_steps={})
    return steps.next_step(question, [finding])


def _another_length(question: Question, finding: found.BestStep) -> NextStep:
    if finding.when == "late":
        longer = {b: 2 * steps for b, steps in question.train_steps.items()}
        reason = "Trials twice as long; tune the decay of the rate again with them."
        return steps.another_file(
            question, "longer", "trials twice as long", reason, train_steps=longer
        )
    reason = "A quarter of the length holds the best step with room to spare."
    return steps.another_file(
        question, "shorter", "a quarter of the budgets", reason, train_steps={},
        step_budget=-(-question.step_budget // 4), example_budget=-(-question.example_budget // 4),
    )  # fmt: skip


def _regularized(question: Question) -> NextStep:
    rows = (
        OPTIMIZERS[question.optimizer].hyperparameters if question.optimizer in OPTIMIZERS else ()
    )
    decays = any(row.name == "weight_decay" for row in rows)
    if decays:
        return NextStep(
            f"{steps.run_again(question)} --averaging ema",
            "Search weight_decay over a wider range; averaged parameters regularize too.",
        )
    return NextStep(
        f"{steps.run_again(question)} --optimizer adamw",
        "It searches a weight decay; dropout and label smoothing are the workload's to add.",
    )


def _subject(question: Question) -> str:
    """The words that name the study to a procedure."""
    return question.source or question.name.removesuffix("-smoke")


def _sizes(finding: Finding) -> list[str]:
    sizes = getattr(finding, "batch_sizes", ())
    return ["--batch-size", str(sizes[0])] if sizes else []
