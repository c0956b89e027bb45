"""The studies of a procedure: one question at one batch size, its learning rate swept.

A procedure starts from any study. Of it stand the workload, the optimizer, the schedule, the
clipping, the precision and what it holds fixed; the learning rate is swept, and other searched
hyperparameters are held (`held`). A rule from another batch size is applied once, here; no trial
is stopped, and no batch grows.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.analysis.study_file import study_file
from experiments.spec import space as spaces
from experiments.spec.fields import StudyFields
from experiments.spec.parts import PARTS, rows
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import Study, as_typed, resolve
from experiments.spec.values import LONGEST_NAME
from optimizers import OPTIMIZERS
from schedules.rescaling import FROM_THE_START
from workloads.registry import describe_reference

RATE, WARMUP = "learning_rate", "warmup_steps"
EVERY_STEP = 1e-9
"""An evaluation spacing that puts every step on the grid."""


@dataclasses.dataclass(frozen=True)
class Base:
    """Common ground of all studies of a procedure share.

    Attributes:
      study: the question with one batch size, all hyperparameters but the rate held.
      steps: length of a trial.
    """

    study: Study
    steps: int

    @property
    def batch_size(self) -> int:
        """Examples per step."""
        return self.study.batch_sizes[0]

    @property
    def warmup_steps(self) -> int:
        """Steps of the warmup that is held, rounded up."""
        held = self.study.resolved.hyperparameters[WARMUP]
        assert held is not None, "all hyperparameters but the rate are held"
        return math.ceil(self.study.resolved.number(WARMUP, held, self.batch_size))

    def variant(
        self,
        stage: str,
        rates: Sequence[float],
        *,
        steps: int | None = None,
        batch_size: int | None = None,
        seeds: Sequence[int] | None = None,
        every_step: bool = False,
        **changes: Any,
    ) -> Study:
        """A study of trials at these rates, one each and seed; ``changes`` of its other fields.

        A shorter trial than the base's is its first steps as far as averaging goes: a duration
        from the start keeps its steps, and ends with the trial at the latest.
        """
        size, length = batch_size or self.batch_size, steps or self.steps
        fixed = dict(changes.pop("fixed", self.study.fixed))
        for name in FROM_THE_START if length < self.steps else ():
            if name in fixed:
                fixed[name] = min(
                    self.study.resolved.number(name, fixed[name], size), float(length)
                )
        fields = {
            "name": named(self.study.name, stage),
            "batch_sizes": (size,),
            "step_budget": length,
            "example_budget": size,
            "train_steps": {},
            "space": {RATE: spaces.Choice(tuple(rates))},
            "sampler": "grid",
            "trials": len(rates),
            "seeds": tuple(seeds or self.study.seeds[:1]),
            "record_norms": "every",
            "record_curvature": 0,
            "stop": "never",
            "expand": True,
            **({"evaluation_spacing": EVERY_STEP} if every_step else {}),
            "fixed": fixed,
            **changes,
        }
        return changed(self.study, **fields)

    def describe(self) -> dict[str, Any]:
        """The fields that determine the stages, as JSON values."""
        described = resolve(self.variant("base", (1e-3,))).describe()
        notes = ("question", "expected", "source", "command", "space", "trials", "sampler")
        return {k: v for k, v in described.items() if k not in notes}


def held_study_file(base: Base, says: str, *, trials: int = 5, **changes: Any) -> str:
    """A study file that trains ``base`` so, nothing searched, from ``trials`` initialisations."""
    complete = changed(base.study, **{"space": {}, "trials": trials, **changes}).resolved
    return study_file(complete, says, name=named(base.study.name, "held"))


def changed(study: Study, **changes: Any) -> Study:
    """`as_typed`, where another part takes with it what only its predecessor has.

    Of what is held for a replaced part stays what its successor has too; what stands at the
    predecessor's default takes the successor's.
    """
    now = {field: changes.get(field, getattr(study, field)) for field in PARTS}
    replaced = [field for field, name in now.items() if name != getattr(study, field)]
    before = {r.name: r.default for f in replaced for r in rows(f, getattr(study, f))}
    known = {row.name for field, name in now.items() for row in rows(field, name)}
    known |= {*study.workload.hyperparameters}
    fixed = {
        name: value
        for name, value in changes.get("fixed", study.fixed).items()
        if name not in before or (name in known and value != before[name])
    }
    return as_typed(study, **{**changes, "fixed": fixed})


def title_of(base: Base) -> str:
    """'adam on digits_fc, batch size 64'."""
    return f"{base.study.optimizer} on {base.study.workload.name}, batch size {base.batch_size}"


def named(name: str, stage: str) -> str:
    """``name-stage``, cut so that it is a study's name."""
    return f"{name[: LONGEST_NAME - len(stage) - 1]}-{stage}"


def base_of(study: StudyFields, batch_size: int | None = None, steps: int | None = None) -> Base:
    """The base of a procedure on ``study``.

    Args:
      study: any question.
      batch_size: examples per step; default: the middle one of the study.
      steps: length of a trial; default: the study's step budget.

    Raises:
      ValueError: an optimizer that searches along a line, or a batch size or length that cannot be.
    """
    complete = resolve(study)
    size = middle(complete) if batch_size is None else batch_size
    if OPTIMIZERS[complete.optimizer].needs_value_fn:
        raise ValueError(
            "optimizer must take its learning rate as given for this, which "
            f"{complete.optimizer}, with a search along a line, does not"
        )
    fixed = ruled({**complete.fixed, **held(study)}, complete, size)
    fixed.pop(RATE, None)
    typed = as_typed(
        complete,
        batch_sizes=(size,),
        fixed=fixed,
        space={RATE: spaces.Real(1e-3, 1.0, "log")},
        train_steps={},
        example_budget=size,
        step_budget=steps or complete.step_budget,
        sampler="grid",
        stop="never",
        trials=1,
        seeds=complete.seeds[:1],
        batch_size_schedule="constant",
        batch_size_cuts=None,
        batch_size_factor=None,
        max_batch_size=None,
        rule=None,
        pruner="none",
        patience=None,
    )
    return Base(typed, steps or complete.step_budget)


def ruled(
    values: Mapping[str, float | str], study: ResolvedStudy, batch_size: int
) -> dict[str, float | str]:
    """``values`` at a batch size by the study's rule, if it has one; durations stay as they are."""
    if study.rule is None:
        return dict(values)
    taken = study.numbers({RATE: 1.0, **values}, batch_size)  # a rule may read the rate
    return {name: v if isinstance(v, str) else taken[name] for name, v in values.items()}


def middle(study: StudyFields) -> int:
    """The middle one of a study's batch sizes."""
    return study.batch_sizes[len(study.batch_sizes) // 2]


REGULARIZERS = ("dropout_rate", "label_smoothing", "weight_decay")
"""Hyperparameters that are zero where nothing regularizes."""


PLAIN = {
    f"workloads.preprocessing:{name}": f"workloads.preprocessing:{name}_plain"
    for name in ("cifar", "imagenet")
}
"""Preprocessing that augments -> the same without. What a user's file does stays."""


def plain(base: Base) -> Base:
    """``base`` with a constant rate, and without augmentation or regularization."""
    constant = changed(base.study, schedule="constant")
    known = {row.name for row in constant.resolved.rows} | {*constant.workload.hyperparameters}
    fixed = {**constant.fixed, **{name: 0.0 for name in REGULARIZERS if name in known}}
    workload = constant.workload
    described = describe_reference(workload.preprocess) if workload.preprocess else ""
    if described in PLAIN:
        workload = dataclasses.replace(workload, preprocess=PLAIN[described])
    return Base(as_typed(constant, fixed=fixed, workload=workload), base.steps)


def held(study: StudyFields) -> dict[str, float]:
    """Searched hyperparameters but the rate: their defaults, else the middle of their range."""
    complete = resolve(study)
    defaults: Mapping[str, Any] = {row.name: row.default for row in complete.rows}
    found = {}
    for name, distribution in complete.space.items():
        if name == RATE:
            continue
        default = {**complete.workload.hyperparameters, **defaults}.get(name)
        found[name] = distribution.value(0.5) if default is None else default
    return found  # type: ignore[return-value]


def rate_range(study: StudyFields, batch_size: int | None = None) -> tuple[float, float]:
    """The ends of the searched rates, (1e-4, 10) where they are not searched.

    With a rule they are those at ``batch_size``, the study's middle one where None.
    """
    complete = resolve(study)
    searched = complete.space.get(RATE)
    if isinstance(searched, (spaces.Real, spaces.ZeroOrLog)) and searched.low > 0:
        size = middle(complete) if batch_size is None else batch_size
        low, high = (ruled({RATE: e}, complete, size)[RATE] for e in (searched.low, searched.high))
        return float(low), float(high)
    return 1e-4, 10.0


def rate_grid(low: float, high: float, factor: float) -> tuple[float, ...]:
    """low, low f, low f^2, ..., the last at or above ``high``, to six digits."""
    rates = [low]
    while rates[-1] < high * (1 - 1e-9):
        rates.append(low * factor ** len(rates))
    return tuple(float(f"{rate:.6g}") for rate in rates)
