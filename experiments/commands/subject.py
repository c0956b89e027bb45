"""Subject of a procedure: a study or a workload, by name or in a file, at one batch size."""

from __future__ import annotations

import argparse
import ast
import contextlib
import dataclasses
import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.arguments import settings, whole_number
from experiments.commands.chosen import add_field_options, chosen_study
from experiments.spec.values import LONGEST_NAME

if TYPE_CHECKING:
    from experiments.procedures.procedure import Running
    from experiments.procedures.sweep_options import SweepOptions
    from experiments.spec.fields import StudyFields
    from workloads.base import Workload

FIELDS = (
    "optimizer", "schedule", "clipping", "averaging", "momentum-schedule", "seed",
    "record-curvature",
)  # fmt: skip
"""Options of `run` that a procedure takes too."""
CHANGES = ("smoke", "batch-size", "steps", *FIELDS, "hold", "model", "budget")
"""Options of `add_subject_options` that say what is trained, and how much of it."""
SWEEPS = ("rates", "factor")
"""Those of `add_sweep`."""
DEFAULT_BATCH_SIZE, DEFAULT_STEPS = 64, 500
"""Of a workload that is named without a study."""


def add_subject(command: argparse.ArgumentParser) -> None:
    """STUDY|WORKLOAD and what changes it; where and how it is trained."""
    from experiments.spec.fields import ROWS

    command.add_argument(
        "subject", metavar="STUDY|WORKLOAD", help="a name (batchscale list) or a .py file"
    )
    add_subject_options(command, ROWS)


def add_subject_options(command: argparse.ArgumentParser, rows: Any = None) -> None:
    """The options of `add_subject`."""
    from experiments.spec.fields import ROWS

    rows = ROWS if rows is None else rows
    flags = {option.flag for row in rows.values() for option in (row.option, *row.also) if option}
    command.add_argument("--smoke", action="store_true", help="the study's smoke variant")
    command.add_argument(
        "--batch-size", type=whole_number(1), metavar="B", help="default: the study's middle one"
    )
    command.add_argument(
        "--steps", type=whole_number(1), metavar="N", help="of a trial (the study's step budget)"
    )
    add_field_options(command, rows, without=sorted(flags - set(FIELDS)))
    command.add_argument(
        "--hold", nargs="+", metavar="KEY=VALUE", help="hyperparameters to hold (momentum=0.9)"
    )
    command.add_argument(
        "--model", nargs="+", metavar="KEY=VALUE", help="options of the workload's model"
    )
    command.add_argument(
        "--budget", metavar="AMOUNT", help="bound on the cost: 40trials, 1e5steps, 30min"
    )
    command.add_argument("--out", type=Path, metavar="DIR", help="folder of all its records")
    command.add_argument(
        "--execution", choices=("auto", "loop", "scan", "packed"), default="auto",
        help="how trials run (auto: measured)",
    )  # fmt: skip
    command.add_argument("--data-dir", metavar="DIR", help="folder of the dataset's files")


def add_sweep(command: argparse.ArgumentParser) -> None:
    """The ends and the step of a sweep of the rate."""
    command.add_argument(
        "--rates", type=float, nargs=2, metavar=("LOW", "HIGH"), help="ends of the sweep"
    )
    command.add_argument("--factor", type=float, metavar="F", help="from one rate to the next (2)")


def refuse(options: argparse.Namespace, flags: Sequence[str], why: str) -> None:
    """ValueError where one of these options was given, which would be ignored."""
    for flag in flags:
        value = getattr(options, flag.replace("-", "_"))
        if value is not None and value is not False:
            raise ValueError(f"--{flag} has no place {why}")


def chosen_subject(options: argparse.Namespace) -> StudyFields:
    """The study, of a workload one around it, with the options' changes.

    Raises:
      ValueError: neither a study nor a workload; a comparison or paths; or as `chosen_study`.
    """
    from experiments import studies
    from experiments.spec.fields import StudyFields
    from experiments.spec.study import as_typed
    from workloads import WORKLOADS
    from workloads.registry import unknown_name

    name = options.subject
    taken = {flag.replace("-", "_") for flag in FIELDS}
    typed = argparse.Namespace(
        study=name, smoke=options.smoke, fix=options.hold, best_of=None,
        data_dir=options.data_dir, **{flag: getattr(options, flag) for flag in taken},
    )  # fmt: skip
    workload = _workload(name)
    if workload is not None:
        if options.smoke:
            raise ValueError(
                f"--smoke has no place with {name}, a workload: it makes a study's smoke variant"
            )
        study: Any = _around(workload, name, options)
        for row_name, value in _parts(options).items():
            study = as_typed(study, **{row_name: value}, space=None)
        if options.hold:
            study = as_typed(study, fixed={**study.fixed, **_held(options.hold)})
    elif name.endswith(".py") or name in studies.STUDIES:
        study = chosen_study(typed)
    else:
        raise unknown_name("study or workload", name, (*studies.STUDIES, *WORKLOADS))
    if not isinstance(study, StudyFields):
        raise ValueError(f"{name} holds several questions: a procedure takes one study")  # noqa: TRY004
    if options.model:
        changed = {**study.workload.model_options, **_literals(options.model)}
        named = "-".join([study.name, *options.model])
        study = as_typed(
            study,
            workload=dataclasses.replace(study.workload, model_options=changed),
            name=re.sub(r"[^\w.+=,%-]", "", named)[:LONGEST_NAME],
        )
    return study


def _workload(name: str) -> Workload | None:
    """A workload of that name, or the one that a file without a study defines."""
    import workloads
    from experiments import studies
    from experiments.spec.loading import load_file
    from workloads.base import Workload

    if name.endswith(".py"):
        module = load_file(Path(name))
        found = getattr(module, "WORKLOAD", None)
        return found if isinstance(found, Workload) and not hasattr(module, "STUDY") else None
    if name in studies.STUDIES or name not in workloads.WORKLOADS:
        return None
    return workloads.get(name)


def _around(workload: Workload, name: str, options: argparse.Namespace) -> StudyFields:
    from experiments.spec.study import Study

    size = options.batch_size or DEFAULT_BATCH_SIZE
    return Study(
        name=workload.name,
        question=f"How is {workload.name} trained?",
        workload=workload,
        batch_sizes=(size,),
        step_budget=options.steps or DEFAULT_STEPS,
        example_budget=size,
        optimizer=getattr(options, "optimizer", None) or "nesterov",
        source=name if name.endswith(".py") else "",
    )


def _parts(options: argparse.Namespace) -> dict[str, Any]:
    names = ("schedule", "clipping", "averaging", "momentum_schedule")
    found = {name: getattr(options, name) for name in names}
    found["record_curvature"] = options.record_curvature
    found["seeds"] = None if options.seed is None else (options.seed,)
    return {name: value for name, value in found.items() if value is not None}


def _held(pairs: Sequence[str]) -> dict[str, float | str]:
    found: dict[str, float | str] = {}
    for name, text in settings(pairs, "--hold").items():
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = text  # a duration, or what the study refuses by name
    return found


def _literals(pairs: Sequence[str]) -> dict[str, Any]:
    """Values as Python's literals where they are, else as text."""
    found: dict[str, Any] = {}
    for name, text in settings(pairs, "--model").items():
        try:
            found[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            found[name] = text
    return found


def words_of(options: argparse.Namespace, without: Sequence[str] = ()) -> str:
    """The words typed of the subject, for proposed commands."""
    found = [options.subject, *(["--smoke"] if options.smoke else [])]
    flags = ("batch-size", "steps", *FIELDS, "hold", "model", "data-dir", *SWEEPS)
    for flag in flags:
        value = getattr(options, flag.replace("-", "_"), None)
        if value is not None and flag not in without:
            found += [f"--{flag}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join(found)


def asked(options: argparse.Namespace, kind: str) -> tuple[StudyFields, Path, SweepOptions]:
    """(study, folder, options) of a procedure that sweeps the rate."""
    from experiments.procedures.sweep_options import SWEEP, SweepOptions

    study = chosen_subject(options)
    given = SweepOptions(
        batch_size=options.batch_size,
        steps=options.steps,
        rates=None if options.rates is None else tuple(options.rates),
        factor=SWEEP.factor if options.factor is None else options.factor,
        subject=words_of(options),
        running=running_of(options),
    )
    return study, folder_of(options, kind, study), given


def folder_of(options: argparse.Namespace, kind: str, study: StudyFields) -> Path:
    """--out, else runs/KIND-STUDY."""
    return options.out or Path("runs") / f"{kind}-{study.name}"


def running_of(options: argparse.Namespace) -> Running:
    """Budget, execution, and how progress is shown."""
    from experiments.commands.progress import shown_progress
    from experiments.procedures.budget import Budget
    from experiments.procedures.procedure import Running

    def warn(line: str) -> None:
        print(f"batchscale: warning: {line}", file=sys.stderr)

    budget = Budget.parse(options.budget) if options.budget else Budget()
    train = {"execution": options.execution, "data_dir": options.data_dir, "warn": warn}

    def silent(study: StudyFields) -> contextlib.AbstractContextManager[Any]:
        return contextlib.nullcontext(lambda progress: None)

    shown = shown_progress if sys.stdout.isatty() else silent
    return Running(budget, train, shown, lambda line: print(line, flush=True))


def told(outcome: Any) -> int:
    """Print what a procedure found, and where its report and verdict are."""
    from experiments.report.procedure import lines

    print("\n".join(lines(outcome.said)))
    print(f"\nreport: {outcome.page}\nverdict: {outcome.folder / 'verdict.json'}", flush=True)
    return 0
