"""``batchscale start``: a first configuration of a workload, and a study file to go on from."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiments.commands.arguments import whole_number
from experiments.commands.check import add_workload_options, asked_of, chosen_workload, described
from experiments.commands.check import words_of as words


def add(commands: Any) -> None:
    """The command ``start``."""
    start = commands.add_parser(
        "start", help="a first configuration: simple, fast, small, much better than chance"
    )
    add_workload_options(start)
    start.add_argument("--batch-size", type=whole_number(1), metavar="B", help="(64)")
    start.add_argument(
        "--rates", type=float, nargs=2, metavar=("LOW", "HIGH"), help="ends of the sweep"
    )
    start.add_argument("--budget", metavar="AMOUNT", help="bound on the cost: 1e5steps, 30min")
    start.set_defaults(function=start_command, execution="auto")


def start_command(options: argparse.Namespace) -> int:
    """Sweep the rate, judge the configuration, write the study file; 1 where a word fails."""
    from experiments.commands.subject import running_of
    from experiments.procedures.start import RATES, start

    if options.learning_rate is not None:
        raise ValueError("--learning-rate has no place in start: --rates LOW HIGH sweeps it")
    workload = chosen_workload(options.workload)
    outcome, checks = start(
        workload,
        options.out or Path("runs") / f"start-{workload.name}",
        asked_of(options),
        batch_size=options.batch_size,
        rates=RATES if options.rates is None else tuple(options.rates),
        subject=words(options),
        running=running_of(options),
    )
    print("\n".join(described(workload.name, list(checks))))
    step = outcome.said.next
    print(f"\n{outcome.said.answer}\nNext: {step.command}\n      {step.reason}")
    print(f"\nreport: {outcome.page}\nverdict: {outcome.folder / 'verdict.json'}", flush=True)
    return int(any(one.result == "fail" for one in checks))
