"""The facts a result cannot be read without: what was trained, how, where and from what."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from experiments.analysis.question import Question
from experiments.analysis.summary import Summary
from experiments.report.answer import certainty, interval_name
from experiments.report.words import budget_words, goal_words, label
from experiments.search.fidelity import PRUNERS, Pruner, table
from experiments.spec.parts import PARTS
from experiments.spec.rows import rows_of
from experiments.spec.space import Choice, Distribution, ZeroOrLog

_HASH = 12
_ARCHIVED = ("workload", "step_budget", "example_budget", "optimizer", "space", "trials", "goal")
"""Fields that an archive says; a default of the others is not what was done."""


def _archive_lengths(studies: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Say where an archive's trials have no common length: by early stopping, or a time budget."""
    sizes = sorted(studies, key=int)
    early = [size for size in sizes if studies[size]["early_stopping"]]
    timed = [size for size in sizes if studies[size]["train_steps"] == 0]
    found = []
    for name, own, words in (
        ("Early stopping", early, "trials may have stopped before their length"),
        ("Time budget", timed, "a trial is COMPLETE whatever its steps; budgets are what all made"),
    ):  # fmt: skip
        if own:
            where = "everywhere" if len(own) == len(sizes) else f"at {', '.join(own)}"
            found.append((name, f"{where}: {words}"))
    return found


def facts(summary: Summary) -> list[tuple[str, str]]:
    """(name, value) pairs for the head of the page, in reading order."""
    question, study = summary.question, summary.record.study
    shown: list[tuple[str, str]] = []
    if imported := study.get("imported"):
        shown.append(("Imported", f"{imported['path']}, in the layout {imported['format']}"))
        shown += _archive_lengths(imported["studies"])
    for name, row in rows_of(type(question)).items():
        value = getattr(question, name)
        known = not question.imported or name in _ARCHIVED
        if row.shown and known and value != row.neutral:
            text = SHOWN[name](summary) if name in SHOWN else _words(value)
            text = label(text) if name in PARTS else text
            shown.append((row.shown, text))
        if name == "workload":
            shown.append(("Dataset", _dataset(study.get("dataset", {}), question)))
    shown += _environment(study.get("environment", {}))
    plans = study.get("plans", [])
    if plans:
        shown.append(("Plan" if len(plans) == 1 else "Plans", "; ".join(map(_plan, plans))))
    if changed := study.get("changed_code"):
        shown.append(("Code since changed to", "; ".join(map(_words, changed))))
    shown.append(("Micro-batches", micro_batches(study)))
    shown.append((interval_name(summary).capitalize(), certainty(summary)))
    return [(name, value) for name, value in shown if value]


def _space(summary: Summary) -> str:
    return "; ".join(f"{label(n)} {_range(d)}" for n, d in summary.question.space.items())


def _rule(summary: Summary) -> str:
    rule = summary.question.rule
    return f"{label(rule.rule)} from batch size {rule.batch_size}" if rule else ""


def _fixed(summary: Summary) -> str:
    question = summary.question
    fixed = {n: v for n, v in question.fixed.items() if n not in question.space}
    held = (f"{label(n)} {v if isinstance(v, str) else f'{v:g}'}" for n, v in fixed.items())
    return ", ".join(held)


def _dataset(dataset: Mapping[str, Any], question: Question) -> str:
    sizes = ", ".join(f"{n:,} {split}" for split, n in dataset.get("sizes", {}).items())
    checksum = str(dataset.get("checksum", ""))[:_HASH]
    parts = [sizes, f"sha256 {checksum}" if checksum else ""]
    inside = "; ".join(part for part in parts if part)
    return f"{question.workload.dataset} ({inside})" if inside else question.workload.dataset


def _range(distribution: Distribution) -> str:
    if isinstance(distribution, Choice):
        return "in {" + ", ".join(str(value) for value in distribution.values) + "}"
    scale = distribution.scale.replace("_", " ")
    zero = "0 or " if isinstance(distribution, ZeroOrLog) else ""
    return f"{zero}[{distribution.low:g}, {distribution.high:g}] {scale}"


def _trials(summary: Summary) -> str:
    """'220 COMPLETE (20 planned per batch size), 265 infeasible, 0 incomplete'."""
    steps, view = summary.steps, summary.view
    names = ("complete", "infeasible", "incomplete", "stopped")
    counts = steps.select(pl.col(names).sum()).row(0, named=True)
    stopped = f", {counts['stopped']:,} stopped" if view.stops or view.prunes else ""
    kind = "to start" if view.prunes else "to count" if view.stops else "planned"
    each = "batch size and search" if len(summary.question.seeds) > 1 else "batch size"
    return (
        f"{counts['complete']:,} COMPLETE ({view.wanted} {kind} per {each}), "
        f"{counts['infeasible']:,} infeasible, {counts['incomplete']:,} incomplete{stopped}"
    )


def _sampler(summary: Summary) -> str:
    """Say who proposed the points and in how many rounds, e.g. 'rounds, in 5 to 6 rounds'."""
    counts = collections.Counter(found["seed"] for found in summary.record.study.get("rounds", []))
    if not counts:
        return summary.question.sampler
    fewest, most = min(counts.values()), max(counts.values())
    made = f"{fewest}" if fewest == most else f"{fewest} to {most}"
    return f"{summary.question.sampler}, in {made} round{'s' if most > 1 else ''} a search"


def stopping(summary: Summary) -> str:
    """Say when trials end, what that saved, and who answers what; "" where they never stop."""
    view, question = summary.view, summary.question
    if not view.stops:
        return ""
    race = f", or at {question.race_factor:g} times the fewest steps of earlier rounds"
    saved, whole = view.steps_saved
    full = len(view.full_seeds)
    words = [
        f"at the goal{race if question.stop == 'race' else ''}",
        f"{saved:,} of {whole:,} trial-steps saved ({saved / max(whole, 1):.0%})",
        f"the first {full} of {len(question.seeds)} searches trained to full length and "
        + ("answers the budgets" if full == 1 else "answer the budgets"),
    ]
    if not view.all_answer:
        words.append("a stricter goal than the one trials stop at is answered by them alone")
    return "; ".join(words)


def _pruning(summary: Summary) -> str:
    """Say which trials train to full length, and what that saved."""
    view, pruner = summary.view, Pruner.of(summary.question)
    assert pruner is not None, "the study has one"
    saved, whole = view.steps_saved
    words = [PRUNERS[pruner.name]]
    if pruner.name != "patience":
        rungs = (f"{size} trials: {rungs}" for _, size, rungs in table(pruner, view.wanted))
        words.append(f"in {pruner.resource}ths of the length, {'; '.join(rungs)}")
    if summary.question.patience:
        words.append(f"patience {summary.question.patience} of them")
    words.append(f"{saved:,} of {whole:,} trial-steps saved ({saved / max(whole, 1):.0%})")
    return "; ".join(words)


def _environment(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(label(name).capitalize(), _words(value)) for name, value in environment.items()]


def _plan(plan: Mapping[str, Any]) -> str:
    """Say how trials were executed, like batch sizes together; measurements stay in the record."""
    alike: dict[str, list[str]] = {}
    executions = plan.get("executions")
    if isinstance(executions, Mapping):
        for batch_size, execution in executions.items():
            alike.setdefault(_words(execution), []).append(str(batch_size))
    parts = [
        words if len(alike) == 1 else f"{words} at batch size {', '.join(sizes)}"
        for words, sizes in alike.items()
    ]
    plain = {k: v for k, v in plan.items() if not isinstance(v, (Mapping, list, tuple))}
    return "; ".join([*parts, *([_words(plain)] if plain else [])])


def micro_batches(study: Mapping[str, Any]) -> str:
    """Say what micro-batches of a recorded study do and do not; "" where there are none."""
    plans = study.get("plans", [])
    executions = [e for plan in plans for e in plan.get("executions", {}).values()]
    sizes = {e.get("layout", {}).get("micro_batch") for e in executions} - {None}
    if not sizes:
        return ""
    most = ", ".join(str(size) for size in sorted(sizes))
    return (
        f"at most {most} examples at a time on a device; a step is that of the whole batch, in "
        "less memory, and no faster: micro-batches buy no throughput"
    )


def _words(value: Any) -> str:
    """Nested plain data on one line; long hashes shortened."""
    if isinstance(value, Mapping):
        return ", ".join(f"{label(str(k))} {_words(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(item) for item in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    hexadecimal = len(text) >= 32 and all(c in "0123456789abcdef" for c in text.lower())
    return text[:_HASH] if hexadecimal else text


SHOWN: dict[str, Callable[[Summary], str]] = {
    "workload": lambda summary: summary.question.workload.name,
    "step_budget": lambda summary: budget_words(summary.question, "step"),
    "example_budget": lambda summary: budget_words(summary.question, "epoch"),
    "space": _space,
    "fixed": _fixed,
    "trials": _trials,
    "seeds": lambda summary: ", ".join(map(str, summary.question.seeds)),
    "goal": lambda summary: goal_words(summary.question),
    "rule": _rule,
    "sampler": _sampler,
    "stop": stopping,
    "pruner": _pruning,
    "precision": lambda summary: _words(dataclasses.asdict(summary.question.precision)),
}
"""Fields that are shown otherwise than as they are."""
