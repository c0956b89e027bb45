"""The curvature, the sharpness, the gradients and the landscape of a trained trial.

    from experiments.runner.curvature import CurvatureRequest, measure
    found = measure("runs/quickstart", (64, 3), CurvatureRequest(examples=512), say=print)
    found.numbers                                   # trial, quantity, value, error, how
    found.curves["density"], found.curves["plane"]  # what the figures draw

The trial is that of `experiments.runner.trained`, at its best step. Its cost is measured on one
product and said before the rest is made.
"""

from __future__ import annotations

import dataclasses
import re
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
import polars as pl

from experiments.diagnostics import landscape
from experiments.diagnostics.curvature.operators import hessian
from experiments.diagnostics.problem import Params, Problem, flat
from experiments.diagnostics.sharpness import DIMENSIONS
from experiments.diagnostics.trained import OBJECTIVE
from experiments.runner import curvature_parts as parts
from experiments.runner.curvature_alignment import alignment
from experiments.runner.curvature_parts import CurvatureTables, Subject
from experiments.runner.curvature_sharpness import KESKARS, SharpnessSearch, sharpness
from experiments.runner.trained import (
    OpenedRecord,
    Say,
    TrainedTrial,
    reopen,
    trained_to_best,
    trial_row,
    unsaid,
    with_data,
)
from experiments.runtime.compilation import switched
from experiments.runtime.memory import device_bytes

PARTS = ("spectrum", "sharpness", "gradients", "landscape")
_NOT_ENOUGH = 0.8
"""Share of the free memory that vectors may take; programs need the rest."""


@dataclasses.dataclass(frozen=True)
class CurvatureRequest:
    """The measurements asked for, and how closely.

    Attributes:
      parts: of `PARTS`.
      examples: training examples at most, the first of the split.
      order: Lanczos steps of each start vector.
      draws: start vectors of the spectral density.
      probes: of the trace.
      block: a regular expression: the curvature of the parameters whose path it is found in.
      split: beside "train", where losses and errors of the landscape are evaluated.
      seed: of probes, starts and directions.
      search: of the sharpness.
      steps: pairs of successive gradients whose alignment is measured.
    """

    parts: tuple[str, ...] = PARTS
    examples: int = 1024
    order: int = 90
    draws: int = 3
    probes: int = 50
    block: str = ""
    split: str = "validation"
    seed: int = 0
    search: SharpnessSearch = KESKARS
    steps: int = 20

    def __post_init__(self) -> None:
        for name in ("examples", "order", "draws", "probes", "steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)!r}")
        if unknown := set(self.parts) - {*PARTS}:
            raise ValueError(f"parts must be among {', '.join(PARTS)}, got {sorted(unknown)}")
        try:
            re.compile(self.block)
        except re.error as error:
            raise ValueError(
                f"block must be a regular expression, got {self.block!r} ({error})"
            ) from None


@dataclasses.dataclass(frozen=True)
class Measured:
    """The findings of a trial.

    Attributes:
      trial: B/INDEX of seed S.
      against: the second solution of the lines; "" where there is none.
      step: its best step.
      parameters, examples: how many.
      facts: (name, value) of what was measured and how.
      numbers: ``trial, quantity, value, error, how``, one row a trial and quantity; ``error`` may
        be null. Of the second solution: spectrum and sharpness.
      curves: "density", "plane", "errors", "alignment", "lines" -> what the figures draw, where
        measured.
    """

    trial: str
    against: str
    step: int
    parameters: int
    examples: int
    facts: tuple[tuple[str, str], ...]
    numbers: pl.DataFrame
    curves: Mapping[str, pl.DataFrame]


def measure(
    folder: Path | str,
    trial: tuple[int, int],
    asked: CurvatureRequest = CurvatureRequest(),
    *,
    seed: int | None = None,
    against: tuple[int, int] | None = None,
    data_dir: str | None = None,
    warn: Callable[[str], None] = warnings.warn,
    say: Say = unsaid,
) -> Measured:
    """Measure a trial of a record; nothing in ``folder`` is changed.

    Args:
      folder: a study's record.
      trial: (batch size, index).
      asked: what is measured.
      seed: of the search; the study's first unless given.
      against: a second trial of the record, to which lines are drawn.
      data_dir: where the dataset's files are, if not in the usual places.
      warn: takes one line where a checkpoint cannot be used.
      say: takes a line that says what will be done, with its time and memory, before it is.

    Raises:
      ValueError: no such trial, split or block; a loss without curvature; numbers too coarse.
      StudyError: not reproduced; or the vectors do not fit into memory.
      RecordError, DataError: one clear line.
    """
    record, study = reopen(folder)
    names = [trial] if against is None else [trial, against]
    rows = [trial_row(record, study, batch_size, seed, index) for batch_size, index in names]
    if "bfloat16" in dataclasses.astuple(study.precision):
        raise ValueError(
            f"the curvature needs parameters and activations in float32 or float64, the trials of "
            f"{folder} have {study.precision}"
        )
    with switched(study.precision.float64):
        opened = with_data(folder, record, study, data_dir)
        opened.split(asked.split)
        trained = [trained_to_best(opened, row, warn=warn, say=say) for row in rows]
        subject = _subject(opened, tuple(trained), asked)
        _check_smooth(subject)
        say(_cost(subject, asked, _vectors(subject, asked)))
        return _measured(subject, asked)


def _subject(
    opened: OpenedRecord, trained: tuple[TrainedTrial, ...], asked: CurvatureRequest
) -> Subject:
    count = min(asked.examples, opened.dataset.size("train"))
    problem, params = parts.problem_on(opened, trained[0], "train", OBJECTIVE, count)
    inside = _inside(params, asked.block)
    return Subject(opened, trained, count, problem, params, inside, asked.split, asked.seed)


def _inside(params: Params, pattern: str) -> np.ndarray:
    """[n] bool, the parameters in whose path the pattern is found."""
    paths, marks = [], []
    for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]:
        paths.append(jax.tree_util.keystr(path, simple=True, separator="/"))
        marks.append(np.full(leaf.size, bool(re.search(pattern, paths[-1]))))
    found = np.concatenate(marks)
    if not found.any():
        raise ValueError(
            f"block must be found in a parameter's path ({', '.join(paths)}), got {pattern!r}"
        )
    return found


def _check_smooth(subject: Subject) -> None:
    """ValueError for a loss that counts: its derivative is 0 everywhere."""
    gradient = flat(jax.jit(Problem.gradient)(subject.problem, subject.params))[0]
    if not np.asarray(gradient).any():
        raise ValueError(
            f"the objective of {subject.opened.study.workload.name} has gradient 0 at the best "
            "step of the trial: it is not smooth, or constant there, and has no curvature"
        )


def _probes(subject: Subject, asked: CurvatureRequest) -> int:
    return max(1, min(asked.probes, int(subject.inside.sum()) // 2))


def _vectors(subject: Subject, asked: CurvatureRequest) -> int:
    """Bytes of the most vectors that lie in memory together; ValueError where they do not fit."""
    n, size = int(subject.inside.sum()), subject.theta.dtype.itemsize
    probes = _probes(subject, asked)
    rows = int(subject.problem.chunks["weights"].shape[1])
    wanted = [
        ("spectrum", f"order {asked.order}", (min(asked.order, n) + 2) * n * size),
        ("spectrum", f"probes {probes}", 4 * probes * n * size),
        ("sharpness", f"{DIMENSIONS} directions", 20 * min(DIMENSIONS, n) * n),
        ("gradients", f"the gradients of {rows} examples", 3 * rows * n * size),
        ("gradients", f"{asked.steps} successive gradients", 2 * (asked.steps + 1) * n * size),
    ]
    free, source = device_bytes()
    needed = [0]
    for part, what, count in wanted:
        if part not in asked.parts:
            continue
        if count > _NOT_ENOUGH * free:
            raise ValueError(
                f"{part} with {what} of {n:,} parameters needs {count / 1e9:,.2f} GB of memory, "
                f"{source} has {free / 1e9:,.2f} GB: ask for less"
            )
        needed.append(count)
    return max(needed)


def _cost(subject: Subject, asked: CurvatureRequest, vectors: int) -> str:
    """Time one product, and say what all of them will take."""
    product = jax.jit(lambda problem, params, v: hessian(problem, params)(v))
    given = subject.problem, subject.params, subject.theta
    product(*given).block_until_ready()
    began = time.perf_counter()
    product(*given).block_until_ready()
    seconds = time.perf_counter() - began
    n, lines = int(subject.inside.sum()), len(subject.trained) > 1
    paths = (4 * len(landscape.ALPHAS) + 3 * parts.BEND_STEPS) * lines
    both, searches = 1 + lines, asked.search.restarts * len(asked.search.iterations)
    ends_and_trace = 3 * min(asked.order, n) + 4 * _probes(subject, asked)
    products = {
        "spectrum": min(asked.order, n) * asked.draws + both * ends_and_trace,
        "sharpness": 40 * both * searches,
        "gradients": 6 + parts.DRAWN // 2 + asked.steps,
        "landscape": (parts.PLANE_POINTS**2 + paths) // 4,
    }
    total = sum(count for part, count in products.items() if part in asked.parts)
    unbounded = ", more where the sharpness converges late" if (
        "sharpness" in asked.parts and None in asked.search.iterations
    ) else ""  # fmt: skip
    return (
        f"{n:,} parameters, {subject.count:,} training examples: about {total:,} products with "
        f"the Hessian or their like at {1e3 * seconds:.3g} ms, {max(1, total * seconds):,.0f} s "
        f"and the time to compile{unbounded}; {vectors / 1e6:,.1f} MB of vectors"
    )


def _measured(subject: Subject, asked: CurvatureRequest) -> Measured:
    found = CurvatureTables(subject.one.name)
    _minimum(subject, found, asked)
    if "spectrum" in asked.parts:
        parts.density(subject, found, asked.order, asked.draws)
    if "gradients" in asked.parts:
        parts.gradients(subject, found)
        alignment(subject, found, asked.steps)
    if "landscape" in asked.parts:
        parts.around(subject, found, asked.examples)
    for other in subject.trained[1:]:
        found.trial = other.name
        _minimum(_subject(subject.opened, (other,), asked), found, asked)
    named = ("value", pl.Float64), ("error", pl.Float64), ("how", pl.String)
    schema = [("trial", pl.String), ("quantity", pl.String), *named]
    numbers = pl.DataFrame(found.rows, schema=schema, orient="row")
    one, against = subject.one, [other.name for other in subject.trained[1:]]
    return Measured(
        one.name,
        against[0] if against else "",
        one.step,
        int(subject.theta.size),
        subject.count,
        _facts(subject, asked),
        numbers,
        found.curves,
    )


def _minimum(subject: Subject, found: CurvatureTables, asked: CurvatureRequest) -> None:
    """Measure the parts that a second solution has too."""
    if "spectrum" in asked.parts:
        parts.spectrum(subject, found, asked.order, _probes(subject, asked))
    if "sharpness" in asked.parts:
        sharpness(subject, found, asked.search)


def _facts(subject: Subject, asked: CurvatureRequest) -> tuple[tuple[str, str], ...]:
    study, one = subject.opened.study, subject.one
    column = study.goal.column
    against = [("Against", other.name) for other in subject.trained[1:]]
    return (
        ("Study", study.name),
        ("Workload", study.workload.name),
        ("Optimizer", study.optimizer),
        ("Trial", one.name),
        *against,
        ("Best step", f"{one.step:,}"),
        (column, f"{one.recorded[column]:.4g}"),
        ("Parameters", f"{int(subject.inside.sum()):,} of {subject.theta.size:,}"),
        *([("Block", asked.block)] if asked.block else []),
        ("Examples", f"{subject.count:,} of the training split, in evaluation mode"),
        ("Seed of probes and starts", str(asked.seed)),
    )
