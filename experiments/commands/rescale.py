"""``batchscale rescale``: hyperparameters for another batch size, by named rules."""

from __future__ import annotations

import argparse
from typing import Any

from experiments.commands.arguments import numbers, whole_number


def add(commands: Any) -> None:
    """The command ``rescale``."""
    rescale = commands.add_parser("rescale", help="hyperparameters for another batch size, by rule")
    rescale.add_argument(
        "--rule", required=True, metavar="RULE",
        help="one of batchscale list rescalings, or several joined by +",
    )  # fmt: skip
    rescale.add_argument(
        "--from", dest="batch_size", type=whole_number(1), required=True, metavar="B",
        help="the batch size the values are for",
    )  # fmt: skip
    rescale.add_argument(
        "--to", type=whole_number(1), nargs="+", required=True, metavar="B", help="others"
    )
    rescale.add_argument(
        "--set", nargs="+", action="extend", default=[], required=True, metavar="KEY=VALUE",
        help="hyperparameters, e.g. learning_rate=0.1",
    )  # fmt: skip
    rescale.set_defaults(function=rescale_command)


def rescale_command(options: argparse.Namespace) -> int:
    """The values at every batch size, and what each rule keeps."""
    from schedules.rescaling import RULES, rescale

    given = numbers(options.set)
    for name, value in given.items():
        _check(name, value)
    found = {size: rescale(given, options.batch_size, size, options.rule) for size in options.to}
    rows = [("", *(f"B = {size:,}" for size in (options.batch_size, *found)))]
    rows += [
        (name, f"{value:.6g}", *(f"{values[name]:.6g}" for values in found.values()))
        for name, value in given.items()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *cells in rows:
        shown = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        print("  ".join([name.ljust(widths[0]), *shown]))
    for name in options.rule.split("+"):
        rule = RULES[name.strip()]
        print(f"{rule.name}: {rule.formula}\n  keeps {rule.invariant}")
    return 0


def _check(name: str, value: float) -> None:
    """Refuse a name that no hyperparameter has, which a rule would not change, and a value that no
    hyperparameter of that name may take, with a ValueError."""
    from experiments.spec.parts import PARTS
    from workloads.registry import unknown_name

    choices = [choice for table in PARTS.values() for choice in table.values()]
    rows = [row for choice in choices for row in choice.hyperparameters]
    refusals = []
    for row in rows:
        if row.name == name:
            try:
                return row.check(value)
            except ValueError as refused:
                refusals.append(refused)
    if refusals:
        raise refusals[0]
    raise unknown_name("hyperparameter", name, dict.fromkeys(row.name for row in rows))
