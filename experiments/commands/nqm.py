"""``batchscale nqm``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiments.commands.arguments import whole_number


def add(commands: Any) -> None:
    """The command ``nqm``."""
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


def nqm_command(options: argparse.Namespace) -> int:
    """The exact table, row by row as it is known; then as CSV and as a figure."""
    from experiments.report import nqm as nqm_table

    settings = {"goal": options.goal, "batch_sizes": options.batch_sizes}
    given = {name: value for name, value in settings.items() if value is not None}
    asked = nqm_table.Asked(options.optimizer, options.power, **given)
    nqm_table.show(asked, options.csv, options.out)
    return 0
