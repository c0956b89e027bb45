"""Names as prose: metrics, goals, hyperparameters, hashes."""

from __future__ import annotations

from experiments.analysis.question import Question


def label(name: str) -> str:
    """'learning_rate' -> 'learning rate'."""
    return name.replace("_", " ")


def metric_title(question: Question) -> str:
    """'validation classification error'."""
    return f"{question.goal.split} {label(question.goal.metric)}"


def goal_words(question: Question) -> str:
    """'validation classification error < 0.1'."""
    return f"{metric_title(question)} {question.goal.relation} {question.goal.value:g}"


def budget_words(question: Question, budget: str) -> str:
    """'at most 200 steps' or '10 epochs (10,240 examples)'."""
    if budget == "step":
        return f"at most {question.step_budget:,} steps"
    if question.epoch_budget is None:
        return f"{question.example_budget:,} examples"
    epochs = f"{question.epoch_budget:,.4g} epoch{'' if question.epoch_budget == 1 else 's'}"
    return f"{epochs} ({question.example_budget:,} examples)"
