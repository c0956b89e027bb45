"""The fields of a study, one row each: what a field holds and what it means everywhere else.

A new field is one row (experiments/spec/rows.py) of one of the classes that make up `StudyFields`.
Derived from the rows are: the checks at construction, the record (`Study.describe` and back), the
identity, what may grow in a folder, what is compiled, what compared studies must share, the options
of ``batchscale run``, the fields of the question that analysis reads, and the facts of the report.
Imports no jax.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from experiments.spec import kinds, structures
from experiments.spec import space as spaces
from experiments.spec.rows import FieldRow, Option, part, row, rows_of
from experiments.spec.trial import Precision, Transfer
from experiments.spec.values import LARGEST_SEED, MOST_EXAMPLES, MOST_STEPS
from workloads.base import Goal, Workload

MOST_TRIALS = 1_000_000
MOST_BATCH_SIZES = 1_000
MOST_SEEDS = 10_000
SAMPLERS = ("halton", "random", "grid", "rounds", "gp", "tpe", "cma")
"""Names of `experiments.search.samplers.table.SAMPLERS`."""
DEFAULT_SAMPLER = "rounds"
"""Who proposes points where nothing else is asked for."""
WITHOUT_A_SPACE = "halton"
"""The same where nothing is searched: trials then repeat one configuration."""
PRUNERS = ("none", "successive_halving", "hyperband", "asha", "median", "patience")
"""Names of `experiments.search.fidelity.PRUNERS`, as a study takes them."""
SEARCH_PRUNERS = (*PRUNERS, "extrapolation")
"""The same of a search over a user's own model or function."""

_OWN = "its own search space"


# ruff: noqa: RUF009 (`row` returns a dataclass field)


@dataclasses.dataclass(frozen=True)
class TaskFields:
    """The task, and the budgets at which its answers are wanted."""

    name: str = row(
        kinds.Name(), "folder name of its record, at most 100 letters, digits and _.+=,%-"
    )
    question: str = row(kinds.Text(), "one sentence, shown in the report", role="notes")
    workload: Workload = row(
        structures.WorkloadKind(), "what is learned", static=True, compared=True, shown="Workload"
    )
    batch_sizes: tuple[int, ...] = row(
        kinds.Wholes(1, MOST_EXAMPLES, MOST_BATCH_SIZES, ascending=True),
        "examples per step, each at most the training set; at most 1,000 of them",
        role="grows",
        compared=True,
        option=Option("batch-sizes", "B", "these only", "values", several=True),
    )
    step_budget: int = row(
        kinds.Whole(1, MOST_STEPS),
        'K of "best value at steps <= K", below 2^31',
        compared=True,
        option=Option(
            "budget",
            "DURATION",
            "500steps, 5epochs, 1e5examples: the step budget, the epoch budget, or both",
            "budget",
            several=True,
        ),
        shown="Step budget",
    )
    example_budget: int = row(
        kinds.Whole(1, MOST_EXAMPLES),
        '"best value at examples consumed <= budget" (epochs x training set)',
        compared=True,
        option=Option("budget", "DURATION", "", "budget", several=True),
        shown="Epoch budget",
    )


@dataclasses.dataclass(frozen=True)
class PartFields:
    """The parts of a training run, each a row of a table, and how a batch grows."""

    optimizer: str = part(
        "a name of `optimizers.OPTIMIZERS`",
        "nesterov",
        "another optimizer, its own search space",
        flag="optimizer",
        shown="Optimizer",
    )
    schedule: str = part(
        "of the learning rate; a name of `schedules.SCHEDULES`",
        "constant",
        f"of the learning rate, {_OWN}",
        flag="schedule",
        shown="Schedule",
    )
    clipping: str = part(
        "of the gradient, before the optimizer's rule; a name of `optimizers.CLIPPINGS`",
        "none",
        f"of the gradient, {_OWN}",
        flag="clipping",
        neutral="none",
        shown="Clipping",
    )
    averaging: str = part(
        "of the parameters over steps, evaluated in place of the last ones; a name of "
        "`optimizers.AVERAGINGS`",
        "none",
        f"of the parameters, evaluated in their place, {_OWN}",
        flag="averaging",
        neutral="none",
        shown="Averaging",
    )
    momentum_schedule: str = part(
        "of the momentum, or of beta1; a name of `schedules.MOMENTUM_SCHEDULES`. The rule is built "
        "with each step's value, so Adam's bias factor 1 - beta1^t has it too",
        "constant",
        f"of the momentum or beta1, {_OWN}",
        flag="momentum-schedule",
        neutral="constant",
        shown="Momentum schedule",
    )
    batch_size_schedule: str = part(
        "a name of `schedules.BATCH_SIZE_SCHEDULES`; ``batch_sizes`` are then those of the first "
        "step, and the rate follows warmup and phases alone",
        "constant",
        f"growing the batch where the rate would fall, {_OWN}",
        flag="batch-size-schedule",
        neutral="constant",
        shown="Batch size schedule",
    )
    batch_size_cuts: tuple[int, ...] | None = row(
        kinds.Optional(kinds.Wholes(1, MOST_EXAMPLES, 1_000)),
        "examples consumed where the batch grows; None: where the rate of ``schedule`` would have "
        "fallen by the factor, its settings then being fixed",
        default=None,
        neutral=None,
        unrecorded=True,
        shown="Batch size cuts",
    )
    batch_size_factor: float | None = row(
        kinds.Optional(kinds.RealAbove(0.0)),
        "by which the rate would fall at a cut; default: 1 / ``decay_factor`` where the schedule "
        "has one, else the batch-size schedule's own",
        default=None,
        neutral=None,
        unrecorded=True,
        shown="Batch size factor",
    )
    max_batch_size: int | None = row(
        kinds.Optional(kinds.Whole(1, MOST_EXAMPLES)),
        "the rate takes what the batch may not; default: the training set",
        default=None,
        neutral=None,
        unrecorded=True,
        shown="Largest batch size",
    )


@dataclasses.dataclass(frozen=True)
class TuningFields:
    """The hyperparameters that are searched or held, and how many trials there are."""

    space: Mapping[str, spaces.Distribution] | None = row(
        kinds.Optional(structures.SpaceKind()),
        "searched hyperparameters; default: the workload's for this optimizer, else the "
        "optimizer's own for this many trials (the more trials, the more hyperparameters), and "
        "those of the other parts. A default is taken once, when a record is begun: a study "
        "that grows keeps it",
        default=None,
        shown="Search space",
    )
    fixed: Mapping[str, float | str] = row(
        structures.FixedValues(),
        "hyperparameters held at a value; others take their defaults. One that counts steps may be "
        'a duration, such as ``"2 epochs"`` or ``"5%"`` of the trial: steps then differ between '
        "batch sizes",
        default={},
        option=Option(
            "fix",
            "KEY=VALUE",
            "hyperparameters to hold instead of searching (momentum=0.9, warmup_steps=5%%)",
            "fix",
            several=True,
        ),
        shown="Fixed",
    )
    rule: Transfer | None = row(
        kinds.Optional(kinds.Typed(Transfer)),
        "hyperparameters, searched or fixed, are those of the rule's batch size; at the others "
        "they follow by the rule. A duration stays what it says",
        default=None,
        neutral=None,
        unrecorded=True,
        option=Option(
            "rule",
            "RULE",
            "no search: the best trial of one batch size, taken to the others by "
            "this rule (batchscale list rescalings, joined by +)",
            "rule",
        ),
        also=(Option("from", "B", "with --rule: that batch size (the smallest)", "from"),),
        shown="Rule",
    )
    train_steps: Mapping[int, int] = row(
        structures.Lengths(),
        "batch size -> length in steps, fixed beforehand; a batch size not in it gets "
        "max(step_budget, ceil(example_budget / B)), the least both budgets need",
        default={},
        role="grows",
        compared=True,
    )
    trials: int = row(
        kinds.Whole(1, MOST_TRIALS),
        "N, COMPLETE trials per batch size, at most a million",
        default=20,
        role="grows",
        compared=True,
        option=Option(
            "trials",
            "N",
            "COMPLETE trials per batch size; below 10, from 10, 25 and 50 on more hyperparameters "
            "are searched by default",
        ),
        shown="Trials",
    )
    seeds: tuple[int, ...] = row(
        kinds.Wholes(0, LARGEST_SEED, MOST_SEEDS, distinct=True),
        "one search each, below 2^63; the first is the study's own, others measure study variance",
        default=(0,),
        role="grows",
        compared=True,
        option=Option("seed", "N", "seed of the search, or of the first one", "only"),
        also=(
            Option("seeds", "R", "searches: seeds S to S + R - 1 from the first, S, on", "count"),
        ),
        shown="Seeds",
    )


@dataclasses.dataclass(frozen=True)
class MeasurementFields:
    """The goal, the number formats, and what is measured."""

    goal: Goal | None = row(
        kinds.Optional(kinds.Typed(Goal)),
        "what a trial must pass; default: the workload's",
        default=None,
        static=True,
        compared=True,
        shown="Goal",
    )
    precision: Precision = row(
        kinds.Typed(Precision),
        "number formats of parameters, activations and matrix products",
        default=Precision(),
        static=True,
        compared=True,
        shown="Precision",
    )
    evaluation_spacing: float = row(
        kinds.RealAbove(0.0, 1.0),
        "widest gap of the evaluation grid, as a share of the step",
        default=0.05,
        compared=True,
    )
    train_evaluation_examples: int = row(
        kinds.Whole(1, MOST_STEPS),
        "size of the fixed training subset evaluated beside validation",
        default=256,
        compared=True,
    )
    divergence_factor: float = row(
        kinds.RealAbove(1.0),
        "a loss above this times the initial loss is a divergence",
        default=1e4,
        compared=True,
    )
    record_norms: Literal["auto", "every", "evaluations", "off"] = row(
        kinds.OneOf(("auto", "every", "evaluations", "off")),
        '"auto" chooses by measured cost; the choice is recorded',
        default="auto",
    )
    norms_per_layer: bool = row(
        kinds.Flag(),
        "measure at every evaluation the norms of every array of the parameters",
        default=False,
        static=True,
        neutral=False,
        unrecorded=True,
        option=Option(
            "norms-per-layer",
            "",
            "record every layer's gradient, update and parameter norm at evaluations",
            "flag",
        ),
        shown="Norms per layer",
    )
    record_noise: bool = row(
        kinds.Flag(),
        "estimate at every evaluation the noise of the gradient, from pieces of the next batch",
        default=False,
        neutral=False,
        unrecorded=True,
        option=Option(
            "record-noise",
            "",
            "record the gradient noise scale's two terms at evaluations, for the report",
            "flag",
        ),
        shown="Gradient noise",
    )
    noise_per_layer: bool = row(
        kinds.Flag(),
        "estimate it for every array of the parameters too; implies ``record_noise``",
        default=False,
        neutral=False,
        unrecorded=True,
        option=Option(
            "noise-per-layer", "", "record them for every layer too (with --record-noise's)", "flag"
        ),
        shown="Gradient noise per layer",
    )
    record_curvature: int = row(
        kinds.Whole(0, MOST_STEPS),
        "measure the largest eigenvalue of the curvature at every so many evaluations; 0: never",
        default=0,
        neutral=0,
        unrecorded=True,
        option=Option(
            "record-curvature",
            "EVERY",
            "record the curvature's top eigenvalue, and the rule's bound, at every so many "
            "evaluations",
        ),
        shown="Curvature at every so many evaluations",
    )


@dataclasses.dataclass(frozen=True)
class SearchFields:
    """The sampler of points, and when trials stop."""

    sampler: str | None = row(
        kinds.Optional(kinds.OneOf(SAMPLERS)),
        "who proposes the points of a search: " + ", ".join(SAMPLERS) + ". The default, "
        f"{DEFAULT_SAMPLER} ({WITHOUT_A_SPACE} where nothing is searched), is taken once, when a "
        "record is begun: a study that grows keeps it",
        default=None,
        option=Option("sampler", "NAME", "who proposes points: " + ", ".join(SAMPLERS)),
        shown="Sampler",
    )
    expand: bool = row(
        kinds.Flag(),
        "whether a sampler in rounds may look beyond the search space, within the legal limits, "
        "where the best trial so far lies at its edge",
        default=True,
        neutral=True,
        unrecorded=True,
        option=Option("no-expand", "", "propose no point outside the search space", "off"),
    )
    stop: Literal["never", "goal", "race"] = row(
        kinds.OneOf(("never", "goal", "race")),
        '"goal": a trial ends at its first evaluation past the goal; "race": also ``race_factor`` '
        "times the fewest steps known from earlier rounds of its search and batch size; those of "
        "the first ``full_searches`` searches never do",
        default="never",
        neutral="never",
        unrecorded=True,
        option=Option("stop", "WHEN", "trials end: never (at their length), goal, or race"),
        shown="Stopping",
    )
    race_factor: float = row(
        kinds.RealAbove(1.0),
        "with ``stop`` race, how many times the fewest known steps a trial may take",
        default=3.0,
        neutral=3.0,
        unrecorded=True,
        option=Option("race-factor", "F", "a racing trial ends at F times the fewest known steps"),
    )
    full_searches: int = row(
        kinds.Whole(0, MOST_SEEDS),
        "how many of a study's searches, the first ones, train to full length although others "
        "stop: they answer the budgets",
        default=1,
        neutral=1,
        unrecorded=True,
        option=Option("full-searches", "R", "first searches that never stop (1)"),
    )


@dataclasses.dataclass(frozen=True)
class PruningFields:
    """The trials of a search that train to full length, where not all do."""

    pruner: str = row(
        kinds.OneOf(PRUNERS),
        "who of a search's trials trains to full length, decided for a whole population at once: "
        + ", ".join(PRUNERS)
        + ". N then counts trials started; a pruned one is STOPPED and answers nothing",
        default="none",
        neutral="none",
        unrecorded=True,
        option=Option("pruner", "NAME", "who is stopped early: " + ", ".join(PRUNERS)),
        shown="Pruner",
    )
    pruner_resource: int = row(
        kinds.Whole(1, 100_000),
        "R, parts of a trial's length that a pruner counts in: a rung at r trains to r / R of it",
        default=27,
        neutral=27,
        unrecorded=True,
        option=Option("resource", "R", "parts of a trial's length that a pruner counts in (27)"),
    )
    pruner_eta: int = row(
        kinds.Whole(2, 100_000),
        "of halving, one trial in so many goes on",
        default=3,
        neutral=3,
        unrecorded=True,
        option=Option("eta", "E", "of halving, one trial in E goes on (3)"),
    )
    pruner_rounding: str = row(
        kinds.OneOf(("paper", "floor_first")),
        "of Hyperband's brackets: that of Li et al. (2018), or the widely copied other one",
        default="paper",
        neutral="paper",
        unrecorded=True,
        option=Option("rounding", "NAME", "of Hyperband's brackets: paper, floor_first"),
    )
    patience: int | None = row(
        kinds.Optional(kinds.Whole(1, 100_000)),
        "R-ths of a trial's length without an improvement that end it; None: they do not",
        default=None,
        neutral=None,
        unrecorded=True,
        option=Option("patience", "P", "R-ths of a trial's length without an improvement"),
        shown="Patience",
    )


@dataclasses.dataclass(frozen=True)
class NoteFields:
    """The words and the code that a study came with."""

    expected: str = row(
        kinds.Text(),
        "one sentence, the result expected beforehand or known",
        default="",
        role="notes",
    )
    source: str = row(
        kinds.Text(),
        "the path of the user's file that ``batchscale run`` was given",
        default="",
        role="notes",
    )
    code: Mapping[str, str] = row(
        structures.Code(),
        "file -> sha256 of its text, of ``source`` and of the user's modules that the workload "
        "names; found when the study is resolved",
        default={},
        neutral={},
        unrecorded=True,
        shown="Code",
    )
    command: tuple[str, ...] = row(
        kinds.Words(),
        "the words after ``batchscale run`` that made it, repeated by the report's next command",
        default=(),
        role="notes",
    )


# A dataclass takes the fields of its last base first.
@dataclasses.dataclass(frozen=True)
class StudyFields(
    NoteFields,
    PruningFields,
    SearchFields,
    MeasurementFields,
    TuningFields,
    PartFields,
    TaskFields,
):
    """The fields that `Study`, as typed, and `ResolvedStudy`, complete, have in common."""


ROWS = rows_of(StudyFields)
"""Every field of a study."""


def read_fields(
    described: Mapping[str, Any], rows: Mapping[str, FieldRow] | None = None
) -> dict[str, Any]:
    """The fields of a recorded study; those that older records do not hold take their defaults.

    Raises:
      ValueError: a field is missing, or is not what that field holds.
    """
    values = {}
    for name, field in (ROWS if rows is None else rows).items():
        if name in described:
            values[name] = field.kind.read(name, described[name])
        elif field.required or name in ("goal", "space", "sampler"):
            raise ValueError(f"the recorded study has no field {name}")
    return values


def named(**properties: Any) -> tuple[str, ...]:
    """Names of the fields whose rows have these properties."""
    return tuple(
        name
        for name, field in ROWS.items()
        if all(getattr(field, key) == value for key, value in properties.items())
    )


MAY_CHANGE = tuple(name for name, field in ROWS.items() if field.role != "asks")
"""Fields that may change while a record stays the same study's."""
STATIC = named(static=True)
"""Fields that are compiled: those of `TrialConfig` but ``record_norms``, which the plan chooses."""
COMPARED = named(compared=True)
"""What the studies of a comparison must share: one task, one grid, one tuning budget."""


def documented() -> str:
    """The fields as the ``Attributes`` section of a docstring."""
    lines = (f"      {name}: {field.meaning}." for name, field in ROWS.items())
    return "Attributes:\n" + "\n".join(lines)
