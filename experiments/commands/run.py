"""``batchscale run``: train, report, summarise."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands import several
from experiments.commands.arguments import mesh, positive, settings, whole_number
from experiments.commands.report import summarise

if TYPE_CHECKING:
    from experiments.spec.study import Study

PARTS = {
    "schedule": "of the learning rate",
    "momentum_schedule": "of the momentum or beta1",
    "batch_size_schedule": "growing the batch where the rate would fall",
    "clipping": "of the gradient",
    "averaging": "of the parameters, evaluated in their place",
}
"""Options that change one part of a study and leave the rest of its search space."""
WORDS = (
    "smoke", "seed", "trials", "batch_sizes", "optimizer", *PARTS, "budget", "fix",
    "norms_per_layer", "out", "data_dir",
)  # fmt: skip
"""Options that the command which goes on with a study repeats."""
EXECUTIONS = ("auto", "loop", "scan", "packed")


def add(commands: Any) -> None:
    """The command ``run``."""
    run = commands.add_parser(
        "run",
        help="run a study, or finish one",
        epilog="Told to end by SIGTERM, it saves the running trials and exits with code 75; the "
        "same command goes on where it was.",
    )
    add_study_arguments(run)
    run.add_argument("--out", type=Path, metavar="DIR", help="record's folder (runs/STUDY)")
    run.add_argument(
        "--batch-sizes", type=whole_number(1), nargs="+", metavar="B", help="these only"
    )
    run.add_argument(
        "--execution", choices=EXECUTIONS, default="auto", help="how trials run (auto: measured)"
    )
    run.add_argument(
        "--checkpoint-minutes",
        type=positive,
        default=5.0,
        metavar="M",
        help="save a trial that has run so long, then every M minutes and at its best (5; inf)",
    )
    several.add_options(run)
    run.add_argument("--no-resume", action="store_true", help="refuse a folder that holds records")
    run.add_argument("--keep-going", action="store_true", help="go on after a trial that raises")
    run.set_defaults(function=run_command)


def add_study_arguments(command: argparse.ArgumentParser) -> None:
    """What names a study and changes it: all that `chosen_study` reads but --batch-sizes, and what
    its steps run on."""
    command.add_argument(
        "study", metavar="STUDY", help="a name (batchscale list studies) or a .py file"
    )
    command.add_argument("--smoke", action="store_true", help="the same question, in miniature")
    command.add_argument("--seed", type=whole_number(0), metavar="N", help="seed of the search")
    command.add_argument(
        "--trials", type=whole_number(1), metavar="N", help="COMPLETE trials per batch size"
    )
    command.add_argument(
        "--optimizer", metavar="NAME", help="another optimizer, its own search space"
    )
    for field, what in PARTS.items():
        command.add_argument(
            f"--{field.replace('_', '-')}", metavar="NAME", help=f"{what}, its own search space"
        )
    command.add_argument(
        "--budget", nargs="+", metavar="DURATION",
        help="500steps, 5epochs, 1e5examples: the step budget, the epoch budget, or both",
    )  # fmt: skip
    command.add_argument(
        "--fix", nargs="+", metavar="KEY=VALUE",
        help="hyperparameters to hold instead of searching (momentum=0.9, warmup_steps=5%%)",
    )  # fmt: skip
    command.add_argument(
        "--norms-per-layer",
        action="store_true",
        default=None,
        help="record every layer's gradient, update and parameter norm at evaluations",
    )
    command.add_argument(
        "--parallel",
        choices=("pmap", "shard_map"),
        help="every trial over all devices (default: measured)",
    )
    command.add_argument(
        "--mesh", type=mesh, metavar="trials=T,data=D", help="T groups of D devices (shard_map)"
    )
    command.add_argument(
        "--micro-batch",
        type=whole_number(1),
        metavar="M",
        help="at most M examples at a time on a device: saves memory, no time",
    )
    command.add_argument("--data-dir", metavar="DIR", help="folder of the dataset's files")
    command.add_argument(
        "--stream",
        action="store_true",
        default=None,
        help="read training data from disk while training (beyond 2 GiB always)",
    )


def run_command(options: argparse.Namespace) -> int:
    """Run, report, summarise; as one of several processes, under a watching parent."""
    from experiments.spec.comparison import Comparison
    from experiments.spec.paths import Paths

    study = chosen_study(options)
    together = several.is_one_of_several(options, study)
    if together and not several.is_member():
        return several.watched(options)
    folder = options.out or Path("runs") / study.name
    from experiments.commands.progress import shown_progress
    from experiments.runner.comparison import run_comparison
    from experiments.runner.study import run_study
    from experiments.runtime import hosts
    from experiments.training.layout import chosen_layout

    if together:
        several.join(options)
    given = {
        "execution": options.execution,
        "layout": chosen_layout(options.parallel, options.mesh, options.micro_batch),
        "data_dir": options.data_dir,
        "stream": options.stream,
        "resume": not options.no_resume,
        "keep_going": options.keep_going,
        "checkpoint_minutes": options.checkpoint_minutes,
        "warn": lambda line: print(f"batchscale: warning: {line}", file=sys.stderr),
    }
    if isinstance(study, Paths):
        from experiments.runner.paths import run_paths

        run_paths(study, folder)
    elif isinstance(study, Comparison):
        run_comparison(study, folder, shown=shown_progress, **given)
    else:
        with shown_progress(study) if hosts.first() else contextlib.nullcontext() as observe:
            run_study(study, folder, observe=observe or (lambda progress: None), **given)
    writes = hosts.first()
    if together:
        hosts.leave()
    return summarise(folder) if writes else 0


def chosen_study(options: argparse.Namespace) -> Any:
    """The study, comparison or paths that ``run`` was asked for, with the options' changes."""
    import dataclasses

    from experiments import studies
    from experiments.spec.comparison import Comparison
    from experiments.spec.paths import Paths

    study = studies.get(options.study, smoke=options.smoke)
    changes: dict[str, Any] = {"command": _words(options)}
    if options.seed is not None:
        changes["seeds"] = (options.seed,)
    if options.trials is not None:
        changes["trials"] = options.trials
    if options.batch_sizes is not None:
        changes["batch_sizes"] = tuple(options.batch_sizes)
    if options.norms_per_layer:
        changes["norms_per_layer"] = True
    if isinstance(study, Paths):
        own = ("seed", "trials", "batch_sizes", "budget", "optimizer", *PARTS, "fix")
        _refuse(options, (*own, "norms_per_layer", "parallel", "mesh", "micro_batch"), study.name)
        return study
    if isinstance(study, Comparison):
        _refuse(options, ("optimizer", *PARTS, "fix"), study.name)
        study = study.changed(**changes)
        return _with_budgets(study, options.budget) if options.budget else study
    study = dataclasses.replace(study, **changes)
    if options.budget:
        study = _with_budgets(study, options.budget)
    if options.optimizer is not None:
        study = _with_optimizer(study, options.optimizer)
    for field in PARTS:
        if (name := getattr(options, field)) is not None:
            study = _with_part(study, field, name)
    return _with_fixed(study, options.fix) if options.fix else study


def study_of(words: str, name: str) -> Study:
    """The study called ``name`` that ``batchscale run WORDS`` trains, alone or in a comparison."""
    from experiments.spec.comparison import Comparison

    parser = argparse.ArgumentParser()
    add(parser.add_subparsers())
    found = chosen_study(parser.parse_args(["run", *shlex.split(words)]))
    members = found.studies.values() if isinstance(found, Comparison) else [found]
    return next(study for study in members if study.name == name)


def _words(options: argparse.Namespace) -> str:
    """What was typed after ``batchscale run``, as far as it names and changes the study."""
    words = [options.study]
    for name in WORDS:
        value = getattr(options, name, None)
        if value is None or value is False:  # (0 is a seed)
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words += [str(word) for word in (value if isinstance(value, list) else [value])]
    return shlex.join(words)


def _refuse(options: argparse.Namespace, names: Sequence[str], study: str) -> None:
    """ValueError where an option was given that cannot change this kind of study."""
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} has no place in {study}")


def _with_budgets(study: Any, texts: Sequence[str]) -> Any:
    """The study or comparison under other budgets: in steps, or in examples or epochs."""
    import dataclasses

    from experiments.spec.comparison import Comparison
    from schedules.durations import parse

    one = next(iter(study.studies.values())) if isinstance(study, Comparison) else study
    changes: dict[str, Any] = {}
    suffix = ""
    for duration in map(parse, texts):
        if duration.unit == "fraction":
            raise ValueError(f"--budget must be in steps, examples or epochs, got {duration}")
        field = "step_budget" if duration.unit == "steps" else "example_budget"
        if field in changes:
            raise ValueError(f"--budget takes one {field}, got {' and '.join(texts)}")
        # At one example a step, steps are examples.
        changes[field] = duration.steps(1, one.train_size)
        suffix += f"-{duration.amount:.12g}{duration.unit}"
    if all(getattr(one, field) == value for field, value in changes.items()):
        return study
    if isinstance(study, Comparison):
        return dataclasses.replace(study.changed(**changes), name=study.name + suffix)
    return dataclasses.replace(study, name=study.name + suffix, **changes)


def _with_fixed(study: Study, pairs: Sequence[str]) -> Study:
    """The study with hyperparameters held at a number or a duration, no longer searched."""
    import dataclasses

    given: dict[str, float | str] = dict(settings(pairs, "--fix"))
    for name, text in given.items():
        with contextlib.suppress(ValueError):  # a duration, or what the study refuses by name
            given[name] = float(text)
    return dataclasses.replace(
        study,
        name="-".join([study.name, *(pair.replace(" ", "") for pair in pairs)]),
        space={name: found for name, found in (study.space or {}).items() if name not in given},
        fixed={**study.fixed, **given},
    )


def _with_optimizer(study: Study, name: str) -> Study:
    """The study with another optimizer in its own search space."""
    import dataclasses

    from optimizers import OPTIMIZERS
    from workloads.registry import unknown_name

    if name == study.optimizer:
        return study
    if name not in OPTIMIZERS:
        raise unknown_name("optimizer", name, OPTIMIZERS)
    own = {row.name for row in OPTIMIZERS[study.optimizer].hyperparameters}
    return dataclasses.replace(
        study,
        name=f"{study.name}-{name}",
        optimizer=name,
        space=None,
        fixed={field: value for field, value in study.fixed.items() if field not in own},
    )


def _with_part(study: Study, field: str, name: str) -> Study:
    """The study with another schedule, clipping, ... in its own search space; the rest stays."""
    import dataclasses

    from experiments.spec import parts
    from experiments.spec.space import from_json

    parts.check(field, name)
    before = getattr(study, field)
    if name == before:
        return study
    added = parts.rows(field, name)
    own = {row.name for row in parts.rows(field, before)} - {row.name for row in added}
    if field == "batch_size_schedule":  # where the batch grows is the same in all trials
        own |= {row.name for row in parts.rows("schedule", study.schedule)} - study.fixed.keys()
    ranges = {row.name: from_json(row.space) for row in added if row.space}
    fixed = {name: value for name, value in study.fixed.items() if name not in own}
    kept = {name: found for name, found in (study.space or {}).items() if name not in own}
    changes: dict[str, Any] = {
        field: name,
        "name": f"{study.name}-{name}",
        "space": {n: d for n, d in {**kept, **ranges}.items() if n not in fixed},
        "fixed": fixed,
    }
    return dataclasses.replace(study, **changes)
