"""From findings to the next thing to do: one command, and the study file it needs if it does."""

from __future__ import annotations

import dataclasses
import itertools
import math
import shlex
from collections.abc import Sequence
from typing import Any, TypeVar

from experiments.analysis.curve_findings import CurveFinding
from experiments.analysis.findings import (
    EdgeOptimum,
    Inconclusive,
    NonMonotone,
    OneSearch,
    Shortfall,
    Unreached,
    UntunedSmallest,
    number,
)
from experiments.analysis.findings import Finding as StudyFinding
from experiments.analysis.question import Question
from experiments.analysis.study_file import study_file
from experiments.spec import space as spaces
from experiments.spec.fields import ROWS
from experiments.spec.parts import PARTS, rows
from experiments.spec.values import LONGEST_NAME
from schedules.rescaling import FROM_THE_START

_SHIFT = 0.5  # share of a range's width, on its own scale, by which an end is moved
_SMOKE = "-smoke"
SEARCHES = 6
"""Independent searches whose range covers the median of one with 96.9 %."""
Finding = StudyFinding | CurveFinding
_Found = TypeVar("_Found", bound=Finding)


@dataclasses.dataclass(frozen=True)
class NextStep:
    """The next command, with its reason.

    Attributes:
      command: one line for the shell; "" where nothing can be run.
      reason: one sentence, why.
      file_name, file_text: the study file that ``command`` runs, where it runs a new one.
    """

    command: str
    reason: str
    file_name: str | None = None
    file_text: str | None = None


def next_step(question: Question, findings: Sequence[Finding]) -> NextStep:
    """The answer to the weightiest finding: finish, narrow, widen, lengthen, or repeat."""
    if question.imported:
        return NextStep("", "The trials were imported; none can be added.")
    shortfalls = _only(findings, Shortfall)
    edges = [edge for edge in _only(findings, EdgeOptimum) if edge.proposed is not None]
    if shortfalls and not shortfalls[0].exhausted:
        return NextStep(
            run_again(question),
            "It resumes where the record ends; finished trials are not repeated.",
        )
    if shortfalls and not shortfalls[0].finite:
        return narrower(
            question, "Most trials diverged: search a range that reaches less far into instability."
        )
    if edges:
        changes = {edge.hyperparameter: _resized(question, edge) for edge in edges}
        reason = "An optimum at the edge of what was searched may lie beyond it."
        return _new_study(question, "wider", changes, reason)
    unreached = _only(findings, Unreached)
    if unreached:
        return _longer(question, unreached)
    if any(isinstance(found, (UntunedSmallest, NonMonotone)) for found in findings):
        reason = "More trials in every search, beside those there are, bring it closer to its end."
        return NextStep(run_again(question, trials=2 * question.trials), reason)
    noted = [found for found in findings if not isinstance(found, (OneSearch, Inconclusive))]
    stands = (
        "Beside what is noted above the answer stands as it was asked for"
        if noted
        else "Nothing here asks for a changed study"
    )
    searches = len(question.seeds)
    if (_only(findings, OneSearch) or searches > 1) and _takes("seeds"):
        wanted = SEARCHES if searches < SEARCHES else searches + 2
        covered = 100 * (1 - 2.0 ** (1 - wanted))
        return NextStep(
            run_again(question, seeds=wanted),
            f"{stands}; {wanted} searches that learn nothing from one another give every number an "
            f"exact range that covers with {covered:.3g}%. Those there are stay.",
        )
    return NextStep(
        run_again(question, seed=max(question.seeds) + 1),
        f"{stands}; another search with another seed shows how much the result owes to the "
        "points it happened to draw.",
    )


def narrower(question: Question, reason: str) -> NextStep:
    """The study with the rate searched below the middle of its range alone."""
    return _new_study(question, "narrower", _narrowed(question), reason)


def widened(
    question: Question, name: str, searched: spaces.Range, end: str
) -> tuple[float, float] | None:
    """The range with one end moved out by half its width on its scale, within legal limits.

    None where that end already is the legal limit.
    """
    low, high = float(searched.low), float(searched.high)
    (legal_low, low_open), (legal_high, high_open) = _legal(question, name)
    moved = _moved(searched, end, _SHIFT)
    if end == "upper":
        if moved >= legal_high:
            moved = (high + legal_high) / 2 if high_open else legal_high
    elif moved <= legal_low:
        moved = (low + legal_low) / 2 if low_open else legal_low
    if isinstance(searched, spaces.Integer):
        moved = round(moved)
    if moved == (high if end == "upper" else low):
        return None
    return (low, moved) if end == "upper" else (moved, high)


def _moved(searched: spaces.Range, end: str, share: float) -> float:
    """One end moved outwards by ``share`` of the width on the range's scale (inwards if < 0)."""
    low, high = float(searched.low), float(searched.high)
    if searched.scale == "log":
        step = (high / low) ** share
        return high * step if end == "upper" else low / step
    if searched.scale == "reverse_log":
        step = ((1 - low) / (1 - high)) ** share
        return 1 - (1 - high) / step if end == "upper" else 1 - (1 - low) * step
    step = (high - low) * share
    return high + step if end == "upper" else low - step


def _legal(question: Question, name: str) -> tuple[tuple[float, bool], tuple[float, bool]]:
    """((low, excluded), (high, excluded)) of a hyperparameter; unbounded where unknown.

    A warmup, or what comes before an average, must end within the shortest trial.
    """
    longest = min(question.train_steps.values()) if name in FROM_THE_START else math.inf
    chosen = {field: getattr(question, field) for field in PARTS}
    known = (rows(field, value) for field, value in chosen.items() if value in PARTS[field])
    for row in itertools.chain.from_iterable(known):
        if row.name == name:
            return (row.low, row.low_open), (min(row.high, longest), row.high_open)
    return (-math.inf, False), (math.inf, False)


def _resized(question: Question, edge: EdgeOptimum) -> spaces.Range:
    assert edge.proposed is not None
    searched = question.space[edge.hyperparameter]
    assert not isinstance(searched, spaces.Choice)
    return _with_ends(searched, *edge.proposed)


def _narrowed(question: Question) -> dict[str, spaces.Range]:
    """The rate's range (else the first one) without its upper half."""
    ranges = {n: d for n, d in question.space.items() if not isinstance(d, spaces.Choice)}
    for name in ("learning_rate", *ranges):
        if name in ranges:
            searched = ranges[name]
            upper = _moved(searched, "upper", -_SHIFT)
            return {name: _with_ends(searched, searched.low, max(upper, searched.low))}
    return {}


def _with_ends(searched: spaces.Range, low: float, high: float) -> spaces.Range:
    if isinstance(searched, spaces.Integer):
        return dataclasses.replace(searched, low=round(low), high=max(round(high), round(low) + 1))
    return dataclasses.replace(searched, low=_short(low), high=_short(high))


def _short(value: float) -> float:
    """Four digits of value, or of 1 - value just below one: a range needs no more."""
    return float(number(value)) if value >= 0.9 else float(f"{value:.4g}")


def _new_study(
    question: Question, kind: str, changes: dict[str, spaces.Range], reason: str
) -> NextStep:
    if not changes:
        return NextStep(run_again(question), reason)
    told = " and ".join(
        f"{name} searched in [{number(d.low)}, {number(d.high)}]" for name, d in changes.items()
    )
    return another_file(question, kind, told, reason, space={**question.space, **changes})


def _longer(question: Question, unreached: Sequence[Unreached]) -> NextStep:
    missed = [b for found in unreached for b in found.batch_sizes]
    lengths = {b: 2 * question.train_steps[b] for b in missed}
    reason = "Trials twice as long, where the goal was not reached, may reach it."
    longer = {**question.train_steps, **lengths}
    return another_file(question, "longer", "trials twice as long", reason, train_steps=longer)


def another_file(question: Question, kind: str, told: str, reason: str, **changes: Any) -> NextStep:
    suffix = f"_{kind}"
    name = question.name.removesuffix(_SMOKE)[: LONGEST_NAME - len(suffix)] + suffix
    text = study_file(question, f"{question.name} again, with {told}.", name=name, **changes)
    return NextStep(shlex.join(["batchscale", "run", f"{name}.py"]), reason, f"{name}.py", text)


def run_again(question: Question, **options: int) -> str:
    """The command that the record was made by, with these options in place of its own."""
    base, smoke = question.name.removesuffix(_SMOKE), question.name.endswith(_SMOKE)
    words = list(question.command) or [question.source or base, *(["--smoke"] if smoke else [])]
    for name, value in options.items():
        if f"--{name}" in words:
            at = words.index(f"--{name}")
            del words[at : at + 2]
        words += [f"--{name}", str(value)]
    return shlex.join(["batchscale", "run", *words])


def _takes(flag: str) -> bool:
    """Tell whether ``batchscale run`` has this option for a field of a study."""
    return any(
        option is not None and option.flag == flag
        for row in ROWS.values()
        for option in (row.option, *row.also)
    )


def _only(findings: Sequence[Finding], kind: type[_Found]) -> list[_Found]:
    return [found for found in findings if isinstance(found, kind)]
