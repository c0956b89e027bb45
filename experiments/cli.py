"""The command ``batchscale``. It parses, calls one function, and turns failures into one line.

Exit codes: 0 done; 1 the study could not go on (what finished is recorded); 2 bad input, nothing
on disk was changed; 130 interrupted. Every import that costs time is made by the command that
needs it, so that ``--help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from experiments.study import Study

LISTED = ("workloads", "optimizers", "clippings", "schedules", "studies")
EXECUTIONS = ("auto", "loop", "scan", "packed")


class _Parser(argparse.ArgumentParser):
    """Errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        print(f"batchscale: error: {message}", file=sys.stderr)
        raise SystemExit(2)


def whole_number(low: int) -> Callable[[str], int]:
    """A parser of whole numbers of at least ``low``."""

    def parse(text: str) -> int:
        if not text.lstrip("+-").isdigit() or int(text) < low:
            raise argparse.ArgumentTypeError(
                f"must be a whole number of at least {low}, got {text!r}"
            )
        return int(text)

    return parse


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = _Parser(prog="batchscale", description="Batch-size scaling studies in JAX.")
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    listing = commands.add_parser("list", help="what there is to run")
    listing.add_argument("kind", nargs="?", choices=LISTED, help="default: all")
    listing.set_defaults(function=list_names)

    run = commands.add_parser("run", help="run a study, or finish one")
    run.add_argument(
        "study", metavar="STUDY", help="a name (batchscale list studies) or a .py file"
    )
    run.add_argument("--out", type=Path, metavar="DIR", help="record's folder (runs/STUDY)")
    run.add_argument("--smoke", action="store_true", help="the same question, shrunk to minutes")
    run.add_argument("--seed", type=whole_number(0), metavar="N", help="seed of the search")
    run.add_argument(
        "--trials", type=whole_number(1), metavar="N", help="COMPLETE trials per batch size"
    )
    run.add_argument(
        "--batch-sizes", type=whole_number(1), nargs="+", metavar="B", help="these only"
    )
    run.add_argument("--optimizer", metavar="NAME", help="another optimizer, its own search space")
    run.add_argument("--clipping", metavar="NAME", help="of the gradient, its own search space")
    run.add_argument(
        "--execution", choices=EXECUTIONS, default="auto", help="how trials run (auto: measured)"
    )
    run.add_argument("--data-dir", metavar="DIR", help="folder of the dataset's files")
    run.add_argument("--no-resume", action="store_true", help="refuse a folder that holds records")
    run.add_argument("--keep-going", action="store_true", help="go on after a trial that raises")
    run.set_defaults(function=run_command)

    report = commands.add_parser("report", help="rebuild the report from the record alone")
    report.add_argument("folder", type=Path, metavar="DIR")
    report.set_defaults(function=report_command)

    steps = commands.add_parser("steps-to-result", help="steps to a goal, per batch size")
    steps.add_argument("folder", type=Path, metavar="DIR")
    steps.add_argument("--goal", type=float, metavar="X", help="default: the study's")
    steps.add_argument("--csv", type=Path, metavar="FILE", help="write the table here too")
    steps.set_defaults(function=steps_command)

    plot = commands.add_parser("plot-schedule", help="draw rate, momentum and batch size")
    plot.add_argument(
        "names", nargs="+", metavar="NAME", help="a schedule; of another kind too (cosine smith)"
    )
    plot.add_argument("--steps", type=whole_number(1), default=1000, metavar="N")
    plot.add_argument("--batch-size", type=whole_number(1), default=64, metavar="B")
    plot.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="its settings"
    )
    plot.add_argument(
        "--out", type=Path, metavar="FILE", help="a .png, .svg, .pdf or .html (NAME.png)"
    )
    plot.set_defaults(function=plot_command)
    _add_workload_commands(commands)
    return parser


def _add_workload_commands(commands: Any) -> None:
    """What there is to ask of the workloads, without a study."""
    data = commands.add_parser("data", help="prepare, verify and describe a dataset")
    data.add_argument("name", metavar="NAME", help="a dataset, e.g. fashion_mnist")
    data.add_argument("--data-dir", metavar="DIR", help="folder of its files (text: or a file)")
    data.set_defaults(function=data_command)

    nqm = commands.add_parser("nqm", help="the noisy quadratic model's steps to a goal, exactly")
    nqm.add_argument("--optimizer", default="sgd", metavar="NAME", help="sgd, momentum or ema")
    nqm.add_argument(
        "--power", type=float, default=0.0, metavar="P", help="of the preconditioner H^P (0)"
    )
    nqm.add_argument("--goal", type=float, metavar="C", help="expected loss to pass (0.01)")
    nqm.add_argument(
        "--batch-sizes", type=whole_number(1), nargs="+", metavar="B", help="(4 to 2097152)"
    )
    nqm.add_argument("--csv", type=Path, metavar="FILE", help="write the table here too")
    nqm.add_argument("--out", type=Path, metavar="FILE", help="draw it: .png, .svg, .pdf or .html")
    nqm.set_defaults(function=nqm_command)


def list_names(options: argparse.Namespace) -> int:
    """Names and one line each."""
    for kind in [options.kind] if options.kind else LISTED:
        rows = _rows(kind)
        width = max(len(name) for name, _ in rows)
        print(f"{kind}:")
        for name, summary in rows:
            print(f"  {name:<{width}}  {summary}".rstrip())
    return 0


def _rows(kind: str) -> list[tuple[str, str]]:
    if kind == "optimizers":
        from optimizers import OPTIMIZERS

        return [(name, row.summary) for name, row in OPTIMIZERS.items()]
    if kind == "clippings":
        from optimizers import CLIPPINGS

        return [(name, row.summary) for name, row in CLIPPINGS.items()]
    if kind == "schedules":
        from schedules import SCHEDULES

        return [(name, row.summary) for name, row in SCHEDULES.items()]
    if kind == "workloads":
        import workloads

        found = [workloads.get(name) for name in workloads.WORKLOADS]
        return [
            (
                w.name,
                f"{w.dataset}; goal {w.goal.column} {_sign(w.goal.direction)} {w.goal.value:g}",
            )
            for w in found
        ]
    from experiments import studies

    return [(name, studies.get(name).question) for name in studies.STUDIES]


def _sign(direction: str) -> str:
    return "<" if direction == "min" else ">"


def chosen_study(options: argparse.Namespace) -> Any:
    """The study, comparison or paths that ``run`` was asked for, with the options' changes."""
    import dataclasses

    from experiments import studies
    from experiments.comparison import Comparison
    from experiments.paths import Paths

    study = studies.get(options.study, smoke=options.smoke)
    changes: dict[str, Any] = {}
    if options.seed is not None:
        changes["seeds"] = (options.seed,)
    if options.trials is not None:
        changes["trials"] = options.trials
    if options.batch_sizes is not None:
        changes["batch_sizes"] = tuple(options.batch_sizes)
    if isinstance(study, Paths):
        _refuse(options, ("seed", "trials", "batch_sizes", "optimizer", "clipping"), study.name)
        return study
    if isinstance(study, Comparison):
        _refuse(options, ("optimizer", "clipping"), study.name)
        return study.changed(**changes)
    study = dataclasses.replace(study, **changes)
    if options.optimizer is not None:
        study = _with_optimizer(study, options.optimizer)
    return study if options.clipping is None else _with_clipping(study, options.clipping)


def _refuse(options: argparse.Namespace, names: Sequence[str], study: str) -> None:
    """ValueError where an option was given that cannot change this kind of study."""
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} has no place in {study}")


def _with_optimizer(study: Study, name: str) -> Study:
    """The study with another optimizer in its own search space."""
    import dataclasses

    from optimizers import OPTIMIZERS
    from workloads.base import unknown_name

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


def _with_clipping(study: Study, name: str) -> Study:
    """The study with another clipping in its own search space; the rest of the space stays."""
    import dataclasses

    from experiments.space import from_json
    from optimizers import CLIPPINGS
    from workloads.base import unknown_name

    if name == study.clipping:
        return study
    if name not in CLIPPINGS:
        raise unknown_name("clipping", name, CLIPPINGS)
    own = {row.name for row in CLIPPINGS[study.clipping].hyperparameters}
    kept = {field: found for field, found in (study.space or {}).items() if field not in own}
    rows = CLIPPINGS[name].hyperparameters
    added = {row.name: from_json(row.space) for row in rows if row.space}
    return dataclasses.replace(
        study,
        name=f"{study.name}-{name}",
        clipping=name,
        space={**kept, **added},
        fixed={field: value for field, value in study.fixed.items() if field not in own},
    )


def run_command(options: argparse.Namespace) -> int:
    """Run, report, summarise."""
    from experiments.comparison import Comparison
    from experiments.paths import Paths

    study = chosen_study(options)
    folder = options.out or Path("runs") / study.name
    from experiments.comparison_run import run_comparison
    from experiments.progress import shown_progress
    from experiments.run import run_study

    settings = {
        "execution": options.execution,
        "data_dir": options.data_dir,
        "resume": not options.no_resume,
        "keep_going": options.keep_going,
        "warn": lambda line: print(f"batchscale: warning: {line}", file=sys.stderr),
    }
    if isinstance(study, Paths):
        from experiments.paths_run import run_paths

        run_paths(study, folder)
    elif isinstance(study, Comparison):
        run_comparison(study, folder, shown=shown_progress, **settings)
    else:
        with shown_progress(study) as observe:
            run_study(study, folder, observe=observe, **settings)
    return _summarise(folder)


def report_command(options: argparse.Namespace) -> int:
    """Rebuild report/ from the records."""
    return _summarise(options.folder)


def _summarise(folder: Path) -> int:
    from experiments.paths import PATHS_FILE
    from experiments.records.comparisons import is_comparison

    if (folder / PATHS_FILE).is_file():
        from experiments.report.paths import write_paths_report

        print(f"report: {write_paths_report(folder)}")
        return 0
    if is_comparison(folder):
        from experiments.analysis.compare import read_compared
        from experiments.report.comparison import print_comparison, write_comparison_report

        print_comparison(read_compared(folder))
        print(f"report: {write_comparison_report(folder)}")
        return 0
    from experiments.records.store import read
    from experiments.report.terminal import print_summary
    from experiments.report.write import write_report

    record = read(folder)
    print_summary(record)
    print(f"report: {write_report(folder)}")
    return 0


def steps_command(options: argparse.Namespace) -> int:
    """The table on the terminal, and as CSV."""
    from experiments.records.store import read
    from experiments.report.terminal import print_steps_to_result, write_steps_to_result_csv

    record = read(options.folder)
    print_steps_to_result(record, options.goal)
    if options.csv:
        write_steps_to_result_csv(record, options.goal, options.csv)
        print(f"written: {options.csv}")
    return 0


def plot_command(options: argparse.Namespace) -> int:
    """Draw schedules into a file."""
    from experiments.schedule_plot import write_schedule

    pairs = [text.partition("=") for text in options.set]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise ValueError(f"--set takes KEY=VALUE, got {name + equals + value!r}")
    out = options.out or Path("-".join(options.names) + ".png")
    settings = {name: value for name, _, value in pairs}
    write_schedule(options.names, out, options.steps, options.batch_size, settings)
    print(f"written: {out}")
    return 0


def data_command(options: argparse.Namespace) -> int:
    """Load, which prepares and verifies, and describe."""
    from workloads.datasets.describe import describe, lines

    print("\n".join(lines(describe(options.name, options.data_dir))))
    return 0


def nqm_command(options: argparse.Namespace) -> int:
    """The exact table, row by row as it is known; then as CSV and as a figure."""
    from experiments import nqm_table

    settings = {"goal": options.goal, "batch_sizes": options.batch_sizes}
    given = {name: value for name, value in settings.items() if value is not None}
    asked = nqm_table.Asked(options.optimizer, options.power, **given)
    nqm_table.show(asked, options.csv, options.out)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = build_parser().parse_args(arguments)
    try:
        return options.function(options)
    except KeyboardInterrupt:
        command = "batchscale " + " ".join(a for a in arguments if a != "--no-resume")
        print(f"\ninterrupted; what finished is recorded. Go on with: {command}", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        from experiments.records.store import RecordError
        from experiments.study import StudyError
        from workloads.datasets.base import DataError

        if options.traceback:
            raise
        line = " ".join(str(error).split())
        if isinstance(error, (ValueError, OSError, RecordError, DataError, StudyError)):
            print(f"batchscale: error: {line}", file=sys.stderr)
            return 1 if isinstance(error, StudyError) else 2
        print(
            f"batchscale: defect: {type(error).__name__}: {line} "
            "(please report it with what --traceback shows)",
            file=sys.stderr,
        )
        return 1
