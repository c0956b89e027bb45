"""``batchscale automl``: from a data set to a predictor and a report, within a budget."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path
from typing import Any

from experiments.commands.arguments import whole_number

DEFAULT_BUDGET = "10min"


def add(commands: Any) -> None:
    """The command ``automl``."""
    parser = commands.add_parser(
        "automl",
        help="from a data set to a tested predictor and a report, within a budget",
        epilog="SOURCE: digits, fashion_mnist, mnist, cifar10 or cifar100; a folder of IDX files; "
        "an .npz with inputs and targets; a .csv with a line of names and --target. The same "
        "command goes on where it was interrupted or killed; the time spent before counts.",
    )
    parser.add_argument("--data", required=True, metavar="SOURCE", help="a name or a path")
    parser.add_argument("--target", metavar="COLUMN", help="of a CSV: the column to predict")
    parser.add_argument(
        "--budget", default=DEFAULT_BUDGET, metavar="AMOUNT",
        help=f"45s, 10min, 2h, or 40trials: the same on every machine ({DEFAULT_BUDGET})",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, metavar="DIR", help="(runs/automl-SOURCE)")
    parser.add_argument("--seed", type=whole_number(0), default=0, metavar="S", help="(0)")
    parser.add_argument(
        "--baselines", action="store_true",
        help="compare with scikit-learn's defaults at the end; their time is not in the budget",
    )  # fmt: skip
    parser.add_argument("--workers", type=whole_number(1), metavar="W", help="trials at a time")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the files of a name")
    parser.set_defaults(function=automl_command)


def automl_command(options: argparse.Namespace) -> int:
    """Search, choose, save, test once; print what came of it."""
    began = time.monotonic()
    from experiments.procedures.automl.asked import AutomlRequest
    from experiments.procedures.automl.automl import automl
    from experiments.procedures.budget import Budget
    from experiments.report.procedure import aligned

    asked = AutomlRequest(
        options.data, Budget.parse(options.budget), options.target, options.seed,
        options.data_dir, options.baselines,
    )  # fmt: skip
    stem = re.sub(r"[^\w.-]", "-", Path(options.data).stem or "data")
    outcome = automl(
        asked,
        options.out or Path("runs") / f"automl-{stem}",
        began=began,
        workers=options.workers,
        show=True,
        say=lambda line: print(line, flush=True),
        warn=lambda line: print(f"batchscale: warning: {line}", file=sys.stderr),
    )
    for table in outcome.said.tables[:3]:
        print("\n".join(["", table.title, *aligned([table.columns, *table.rows], table.numeric)]))
    print(f"\n{outcome.said.answer}")
    print(f"predictor: {outcome.folder}\nreport: {outcome.page}", flush=True)
    return 0
