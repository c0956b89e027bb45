"""Is this workload sound: CS231n's sanity list and the Tuning Playbook's of the pipeline.

A few hundred steps at one batch size of 20 examples, some evaluations, a gradient check in a
process of its own. Each check is asked for by its name and kept as soon as it is made, so that an
interrupted list goes on where it was.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.analysis import sanity, sanity_pipeline
from experiments.analysis.next_step import NextStep
from experiments.analysis.sanity import Check
from experiments.diagnostics import activations, gradient_check
from experiments.diagnostics import sanity as measure
from experiments.diagnostics.overlap import overlaps
from experiments.procedures import proposed
from experiments.procedures.bench import Bench, BenchRequest, step_time, study_around
from experiments.procedures.budget import ProcedureCost
from experiments.procedures.made_checks import MadeChecks, question_of
from experiments.procedures.outcome import ProcedureOutcome, conclude
from experiments.procedures.procedure import PLAIN, Procedure, Running
from experiments.report.figure import Figure
from experiments.report.procedure import Noted, Said
from experiments.report.sanity_figures import filter_pictures, layer_histograms, update_ratios
from experiments.report.tables import Table
from experiments.runtime.compilation import switched
from experiments.spec.errors import in_one_line
from workloads import datasets
from workloads.base import Workload
from workloads.datasets.base import bytes_of
from workloads.registry import unknown_name

_NOT_MADE = "could not be made"
_REPEATED = 25
"""Steps that are made twice."""
_RELOADED_BYTES = 256 << 20
"""A larger training split is not loaded twice."""


def _initial_loss(bench: Bench) -> Check:
    return sanity.initial_loss(measure.initial_loss(bench.pipeline, bench.off))


def _inputs(bench: Bench) -> Check:
    states = {"at the start": bench.started, f"after {bench.asked.steps} steps": bench.trained[0]}
    return sanity.inputs(measure.input_matters(bench.pipeline, states, bench.off))


def _memorised(bench: Bench) -> Check:
    return sanity.memorised({**bench.memorised[0], "own_loss": bench.own_loss})


def _penalties(bench: Bench) -> Check:
    if not any(map(measure.is_regulariser, bench.workload.hyperparameters)):
        return sanity.penalties({})
    state, rate = bench.memorised[1], bench.asked.learning_rate
    return sanity.penalties(measure.penalties(bench.pipeline, state, rate))


def _gradient(bench: Bench) -> Check:
    state = bench.trained[0]
    task = gradient_check.task_of(bench.pipeline, state, bench.off, bench.asked.source)
    smooth = not any(layer.kind == "relu" for layer in bench.layers[0])
    return sanity.gradient([dataclasses.asdict(row) for row in gradient_check.ask(task)], smooth)


def _updates(bench: Bench) -> Check:
    return sanity.updates(bench.ratios, bench.asked.learning_rate, bench.asked.optimizer)


def _signals(bench: Bench) -> Check:
    return sanity.signals(_plain_layers([*bench.layers[1], *bench.gradients]))


def _dead(bench: Bench) -> Check:
    return sanity.dead_units(*map(_plain_layers, bench.layers))


def _filters(bench: Bench) -> Check:
    found = bench.filters
    correlation = None if found is None else activations.neighbour_correlation(found)
    return sanity.filters(correlation, bench.asked.steps)


def _overlap(bench: Bench) -> Check:
    return sanity_pipeline.overlap([dataclasses.asdict(row) for row in overlaps(bench.dataset)])


def _learns(bench: Bench) -> Check:
    found = measure.learned(bench.pipeline, bench.trained[0], bench.off)
    return sanity_pipeline.learns(found, bench.asked.steps)


def _shuffled(bench: Bench) -> Check:
    found = measure.shuffled_labels(bench.pipeline, bench.off, bench.asked.steps)
    return sanity_pipeline.shuffled(found)


def _determinism(bench: Bench) -> Check:
    rows, pipeline = bench.rows[:_REPEATED], bench.pipeline
    once, _ = pipeline.advance(bench.started, bench.off, pipeline.train, rows)
    equal = True
    if bytes_of(bench.dataset.splits["train"]) <= _RELOADED_BYTES:
        again = datasets.load(
            bench.workload.dataset, bench.asked.data_dir, **bench.workload.dataset_options
        )
        equal = again.checksum == bench.dataset.checksum
    return sanity_pipeline.repeats(measure.repeated(pipeline, bench.off, once, rows), equal)


def _evaluation(bench: Bench) -> Check:
    found = measure.evaluation_batches(bench.pipeline, bench.trained[0], bench.off)
    return sanity_pipeline.evaluation_batches(found)


def _batch_norm(bench: Bench) -> Check:
    found = measure.batch_norm(bench.pipeline, bench.trained[0], bench.off)
    return sanity_pipeline.batch_norm(found)


def _input_bound(bench: Bench) -> Check:
    study = study_around(bench.workload, bench.asked)
    seconds, share = step_time(study, bench.dataset)
    return sanity_pipeline.input_bound(seconds, share, study.batch_sizes[0])


CHECKS: Mapping[str, Callable[[Bench], Check]] = {
    "initial loss": _initial_loss,
    "reads its inputs": _inputs,
    "memorises 20 examples": _memorised,
    "penalty raises the loss": _penalties,
    "gradient check": _gradient,
    "update to weight ratio": _updates,
    "activations and gradients": _signals,
    "dead units": _dead,
    "first-layer filters": _filters,
    "overlap of splits": _overlap,
    "better than chance": _learns,
    "shuffled labels": _shuffled,
    "determinism": _determinism,
    "evaluation batch size": _evaluation,
    "batch norm in step": _batch_norm,
    "input-bound": _input_bound,
}
"""Name -> check, in the order in which they are made and shown."""


def check(
    workload: Workload,
    folder: Path | str,
    asked: BenchRequest | None = None,
    *,
    subject: str = "",
    running: Running = PLAIN,
) -> tuple[ProcedureOutcome, list[Check]]:
    """Check a workload and write ``folder/verdict.json`` and ``folder/report/``.

    Args:
      workload: to be checked.
      folder: of the verdict and the report; made where it does not exist.
      asked: what it is checked with.
      subject: the words that name it on a command line.
      running: ``say`` hears of every check; ``budget`` bounds the trials and steps beforehand, and
        the time before each check.

    Returns:
      (the end of the procedure, every check in order).

    Raises:
      UnknownNameError: ``asked.only`` names a check that does not exist.
      BudgetEnds: the budget does not hold the next check; those made are kept.
      StudyError: the model cannot be built.
      DataError: the data are missing.
      RecordError: the folder holds something else.
    """
    asked = asked or BenchRequest()
    for name in asked.only:
        if name not in CHECKS:
            raise unknown_name("check", name, CHECKS)
    began = time.perf_counter()
    with Procedure("check", folder, {"workload": workload.name}, running) as procedure:
        procedure.state_cost(_most(asked))
        running.budget.check(_most(asked), "the checks")
        bench, found = Bench(workload, asked), []
        kept = MadeChecks(procedure.folder, question_of(workload, asked))
        with switched():
            bench.pipeline  # noqa: B018 (a model that cannot be built is one line)
            for name in asked.only or CHECKS:
                if (one := kept.get(name)) is None:
                    running.budget.check(ProcedureCost(seconds=kept.seconds), f"the check {name!r}")
                    begun = time.perf_counter()
                    one = _made(name, bench)
                    spent = time.perf_counter() - begun
                    kept.keep(name, plain(dataclasses.asdict(one)), spent)
                found.append(one)
                running.say(f"{one.result:>14}  {name}")
            figures = _figures(bench, found)
        procedure.made = ProcedureCost(seconds=time.perf_counter() - began)
        said = _said(bench, found, figures, subject or workload.name)
        values = {"checks": [plain(dataclasses.asdict(one)) for one in found]}
        outcome = conclude(procedure, said, values)
        kept.drop()
        return outcome, found


def _most(asked: BenchRequest) -> ProcedureCost:
    """The most that the wanted checks train, at 20 examples a step; the timing of steps apart."""
    wanted = set(asked.only or CHECKS)
    lengths = [asked.steps]
    if wanted & {"memorises 20 examples", "penalty raises the loss"}:
        lengths += [max(2 * asked.steps, measure.CHUNK)] * len(measure.RATES)
    lengths += [asked.steps] * ("shuffled labels" in wanted)
    lengths += [_REPEATED] * (2 * ("determinism" in wanted))
    return ProcedureCost(len(lengths), sum(lengths))


def _made(name: str, bench: Bench) -> Check:
    """A check; a user's code that raises fails it."""
    try:
        return CHECKS[name](bench)
    except Exception as error:  # noqa: BLE001 (a user's model may raise anything)
        return Check(name, "fail", f"{_NOT_MADE}: {in_one_line(error)}",
                     "see where with batchscale --traceback run")  # fmt: skip


def _plain_layers(layers: Sequence[activations.Layer]) -> list[dict[str, Any]]:
    return [dataclasses.asdict(layer) for layer in layers]


def _figures(bench: Bench, checks: Sequence[Check]) -> list[Figure]:
    """Of what the checks measured; of one kept from before an interrupt it is measured again."""
    made = [one.name for one in checks if not one.evidence.startswith(_NOT_MADE)]
    steps, found = bench.asked.steps, []
    if "update to weight ratio" in made:
        ratios = {name: row["ratio"] for name, row in bench.ratios.items()}
        band = (sanity.RATIO / sanity.RATIO_BAND, sanity.RATIO * sanity.RATIO_BAND)
        found.append(update_ratios(ratios, band))
    if "activations and gradients" in made:
        for name, layers in (("activations", bench.layers[1]), ("gradients", bench.gradients)):
            found.append(layer_histograms(name, _plain_layers(layers), steps))
    if "first-layer filters" in made and bench.filters is not None:
        found.append(filter_pictures(bench.filters, steps))
    return found


def _said(bench: Bench, checks: Sequence[Check], figures: Sequence[Figure], subject: str) -> Said:
    failed = [one for one in checks if one.result == "fail"]
    words = subject
    if failed:
        command = proposed.procedure("check", words, "--only", *(one.name for one in failed))
        step = NextStep(command, "Mend it, then check again.")
    else:
        command = proposed.procedure("start", words)
        step = NextStep(command, "It is sound: find a configuration to start from.")
    rows = tuple((one.name, one.result, one.evidence) for one in checks)
    table = Table("checks", "Checks", ("check", "result", "evidence"), rows, (False,) * 3)
    asked = bench.asked
    return Said(
        title=f"check: {bench.workload.name}",
        answer=sanity.answer(checks),
        noted=[
            Noted(f"{one.name} ({one.result}): {one.evidence}. {one.advice}")
            for one in checks
            if one.result in ("warn", "fail")
        ],
        next=step,
        facts={
            "Training": f"{asked.steps} steps of {asked.optimizer} at {asked.learning_rate:g}, "
            "20 examples a step, no augmentation, regularization off",
            "Seed": str(asked.seed),
            "Data": bench.dataset.source,
        },
        tables=[table],
        figures=figures,
    )


def plain(value: Any) -> Any:
    """JSON values of numbers, arrays and trees; what is not finite becomes None."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
