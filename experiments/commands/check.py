"""``batchscale check``: is a workload sound, before anything is tuned on it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import shlex
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.arguments import positive, whole_number

if TYPE_CHECKING:
    from experiments.analysis.sanity import Check
    from experiments.procedures.bench import BenchRequest
    from workloads.base import Workload

WIDTH = 100


def add(commands: Any) -> None:
    """The command ``check``."""
    check = commands.add_parser(
        "check",
        help="is a workload sound: initial loss, gradient, overlap of splits and a dozen more",
        epilog="Exit code 1 where a check fails.",
    )
    add_workload_options(check)
    check.add_argument("--only", nargs="+", default=[], metavar="CHECK", help="names of checks")
    check.add_argument("--budget", metavar="AMOUNT", help="bound on the cost: 1e4steps, 5min")
    check.add_argument("--json", action="store_true", help="print the checks as JSON alone")
    check.set_defaults(function=check_command)


def add_workload_options(command: argparse.ArgumentParser) -> None:
    """WORKLOAD, its short training, and where the answer goes."""
    command.add_argument(
        "workload", metavar="WORKLOAD",
        help="a name (batchscale list), a study's, or a .py file with a WORKLOAD or a STUDY",
    )  # fmt: skip
    command.add_argument("--optimizer", metavar="NAME", help="of the short training (adam)")
    command.add_argument(
        "--learning-rate", type=positive, metavar="RATE", help="of the short training (1e-3)"
    )
    command.add_argument(
        "--steps", type=whole_number(1), metavar="N", help="of the short training (200)"
    )
    command.add_argument("--seed", type=whole_number(0), default=0, metavar="N")
    command.add_argument("--out", type=Path, metavar="DIR", help="of verdict and report")
    command.add_argument("--data-dir", metavar="DIR", help="folder of the dataset's files")


def check_command(options: argparse.Namespace) -> int:
    """Make the checks, print them, and return 1 where one fails."""
    workload = chosen_workload(options.workload)
    asked = dataclasses.replace(asked_of(options), only=tuple(options.only))
    from experiments.procedures.budget import NO_BUDGET, Budget
    from experiments.procedures.check import check, plain
    from experiments.procedures.procedure import Running

    folder = options.out or Path("runs") / f"check-{workload.name}"

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    running = Running(Budget.parse(options.budget) if options.budget else NO_BUDGET)
    if sys.stderr.isatty():
        running = dataclasses.replace(running, say=say)
    outcome, checks = check(workload, folder, asked, subject=words_of(options), running=running)
    failed = any(one.result == "fail" for one in checks)
    if options.json:
        found = [plain(dataclasses.asdict(one)) for one in checks]
        print(json.dumps({"workload": workload.name, "checks": found}, indent=2))
        return int(failed)
    print("\n".join(described(workload.name, checks)))
    step = outcome.said.next
    print(f"\n{outcome.said.answer}\nNext: {step.command}\n      {step.reason}")
    print(f"\nreport: {outcome.page}\nverdict: {outcome.folder / 'verdict.json'}", flush=True)
    return int(failed)


def chosen_workload(name: str) -> Workload:
    """The workload of that name, of a study of that name, or of a file.

    Raises:
      ValueError: a file without either, or as `load_file`.
      UnknownNameError: neither a workload nor a study.
    """
    import workloads
    from experiments import studies
    from experiments.spec.loading import load_file
    from workloads.base import Workload
    from workloads.registry import unknown_name

    if name.endswith(".py"):
        module = load_file(Path(name))
        found = getattr(module, "WORKLOAD", None)
        if not isinstance(found, Workload):
            found = getattr(getattr(module, "STUDY", None), "workload", None)
        if not isinstance(found, Workload):
            raise ValueError(f"{name} defines neither a WORKLOAD nor a STUDY of one")
        return found
    if name in workloads.WORKLOADS:
        return workloads.get(name)
    if name in studies.STUDIES:
        found = getattr(studies.get(name), "workload", None)
        if not isinstance(found, Workload):
            raise ValueError(f"the study {name} is not of one workload")
        return found
    raise unknown_name("workload", name, (*workloads.WORKLOADS, *studies.STUDIES))


def asked_of(options: argparse.Namespace) -> BenchRequest:
    """The settings of a check, by the options.

    Raises:
      UnknownNameError: no such optimizer.
    """
    from experiments.procedures.bench import BenchRequest
    from optimizers import OPTIMIZERS
    from workloads.registry import unknown_name

    if options.optimizer is not None and options.optimizer not in OPTIMIZERS:
        raise unknown_name("optimizer", options.optimizer, OPTIMIZERS)
    given = {n: getattr(options, n) for n in ("optimizer", "learning_rate", "steps", "seed")}
    source = options.workload if options.workload.endswith(".py") else ""
    return BenchRequest(
        **{name: value for name, value in given.items() if value is not None},
        source=source, data_dir=options.data_dir,
    )  # fmt: skip


def words_of(options: argparse.Namespace) -> str:
    """The words that name the workload and its data, for proposed commands."""
    data = ["--data-dir", options.data_dir] if options.data_dir else []
    return shlex.join([options.workload, *data])


def described(name: str, checks: list[Check]) -> list[str]:
    """The checks as lines: result, name, evidence, and advice where it is wanted."""
    wide = max(len(one.name) for one in checks)
    lines = [name]
    for one in checks:
        mark = {"not applicable": "-"}.get(one.result, one.result)
        told = one.evidence
        if one.result in ("warn", "fail") and one.advice:
            told += f". {one.advice[0].upper()}{one.advice[1:]}"
        head = f"{mark:>5}  {one.name:<{wide}}  "
        lines += textwrap.wrap(told, WIDTH, initial_indent=head, subsequent_indent=" " * len(head))
    return lines
