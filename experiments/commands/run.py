"""``batchscale run``: train, report, summarise."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands import several
from experiments.commands.arguments import positive
from experiments.commands.chosen import add_study_arguments, chosen_study
from experiments.commands.report import summarise

if TYPE_CHECKING:
    from experiments.runner.executors.cluster import Cluster
    from experiments.spec.paths import Paths
    from experiments.spec.trial import TrialResult
    from experiments.spec.user_search import UserSearch

EXECUTIONS = ("auto", "loop", "scan", "packed")
CHECKPOINT_MINUTES = 5.0


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
        "--execution", choices=EXECUTIONS, default="auto", help="how trials run (auto: measured)"
    )
    run.add_argument(
        "--checkpoint-minutes",
        type=positive,
        default=CHECKPOINT_MINUTES,
        metavar="M",
        help="save a trial that has run so long, then every M minutes and at its best (5; inf)",
    )
    several.add_options(run)
    run.add_argument("--no-resume", action="store_true", help="refuse a folder that holds records")
    run.add_argument("--keep-going", action="store_true", help="go on after a trial that raises")
    run.add_argument(
        "--allow-changed-code",
        action="store_true",
        help="go on although the text of your study's files has changed; the record says so",
    )
    run.add_argument("--executor", choices=("threads", "ray"), default="threads", help="who trains")
    run.add_argument(
        "--ray-address", metavar="HOST:PORT", help="a cluster that runs (one of this machine)"
    )
    run.add_argument(
        "--task", nargs="+", type=_resource, metavar="NAME=N", default=[],
        help="what a Ray task takes: cpus=1, gpus=1, tpus=4 (cpus=1)",
    )  # fmt: skip
    run.add_argument(
        "--track",
        metavar="KIND",
        help="also pass recorded trials on while it runs: tensorboard or wandb",
    )
    run.set_defaults(function=run_command)


def _resource(text: str) -> tuple[str, float]:
    """``NAME=N``."""
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be NAME=N, such as gpus=1, got {text!r}") from None


def run_command(options: argparse.Namespace) -> int:
    """Run, report, summarise; as one of several processes, under a watching parent."""
    from experiments.spec.comparison import Comparison
    from experiments.spec.paths import Paths
    from experiments.spec.user_search import UserSearch

    study = chosen_study(options)
    if options.track is not None:
        from experiments.runner.tracking import check_tracker

        check_tracker(options.track)
        if isinstance(study, (Comparison, Paths)):
            raise ValueError(f"--track follows a study or a search; {study.name} is neither")
    together = several.is_one_of_several(options, study)
    if together and not several.is_member():
        return several.watched(options)
    if options.executor == "threads" and (options.ray_address or options.task):
        raise ValueError("--ray-address and --task are for --executor ray")
    if together:
        several.join(options)  # before the imports that take seconds, so that nobody waits for them
    folder = options.out or Path("runs") / study.name
    from experiments.commands.progress import shown_progress
    from experiments.runner.comparison import run_comparison
    from experiments.runner.study import run_study
    from experiments.runtime import hosts
    from experiments.training.layout import chosen_layout

    if isinstance(study, Paths):
        _walk(study, folder, options)
        return summarise(folder)
    if isinstance(study, UserSearch):
        _search(study, folder, options)
        return summarise(folder)
    given = {
        "execution": options.execution,
        "layout": chosen_layout(options.parallel, options.mesh, options.micro_batch),
        "data_dir": options.data_dir,
        "stream": options.stream,
        "resume": not options.no_resume,
        "keep_going": options.keep_going,
        "allow_changed_code": options.allow_changed_code,
        "checkpoint_minutes": options.checkpoint_minutes,
        "cluster": _cluster(options),
        "warn": _warn,
    }
    if isinstance(study, Comparison):
        run_comparison(study, folder, shown=shown_progress, **given)
    else:
        with contextlib.ExitStack() as shown:
            if hosts.first():
                given["observe"] = shown.enter_context(shown_progress(study))
                given["recorded"] = shown.enter_context(_tracked(study.name, folder, options))
            run_study(study, folder, **given)
    writes = hosts.first()
    if together:
        hosts.leave()
    return summarise(folder) if writes else 0


def _search(study: UserSearch, folder: Path, options: argparse.Namespace) -> None:
    """Search over a user's own model or function: ValueError for an option it has no use for."""
    from experiments.runner.search import run_search

    if options.execution != "auto":
        raise ValueError(f"--execution has no place in {study.name}")
    with _tracked(study.name, folder, options) as recorded:
        run_search(
            study,
            folder,
            data_dir=options.data_dir,
            resume=not options.no_resume,
            keep_going=options.keep_going,
            allow_changed_code=options.allow_changed_code,
            checkpoint_minutes=options.checkpoint_minutes,
            warn=_warn,
            cluster=_cluster(options),
            recorded=recorded,
        )


def _tracked(
    name: str, folder: Path, options: argparse.Namespace
) -> contextlib.AbstractContextManager[Callable[[Sequence[TrialResult]], None]]:
    """A context that gives what takes recorded trials: ``--track``, or nobody."""
    from experiments.runner.tracking import tracking

    if options.track is None:
        return contextlib.nullcontext(lambda results: None)
    return tracking(options.track, name, folder, _warn)


def _warn(line: str) -> None:
    print(f"batchscale: warning: {line}", file=sys.stderr)


def _cluster(options: argparse.Namespace) -> Cluster | None:
    if options.executor == "threads":
        return None
    from experiments.runner.executors.cluster import Cluster

    return Cluster(options.ray_address, dict(options.task))


TRAINING = {
    "execution": "auto",
    "executor": "threads",
    "checkpoint_minutes": CHECKPOINT_MINUTES,
    "keep_going": False,
    "allow_changed_code": False,
    "data_dir": None,
    "stream": None,
}
"""Options that say how trials are trained, and their defaults."""


def _walk(paths: Paths, folder: Path, options: argparse.Namespace) -> None:
    """Walk paths, which train no trial: ValueError for an option that says how to."""
    from experiments.runner.paths import run_paths

    for name, default in TRAINING.items():
        if getattr(options, name) != default:
            raise ValueError(f"--{name.replace('_', '-')} has no place in {paths.name}")
    run_paths(paths, folder, resume=not options.no_resume)
