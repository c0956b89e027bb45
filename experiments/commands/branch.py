"""``batchscale branch``: a local critical batch size, by branches from a step of a trial."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from experiments.commands.arguments import trial_key, whole_number


def add(commands: Any) -> None:
    """The command ``branch``."""
    parser = commands.add_parser(
        "branch",
        help="the critical batch size at a step, by branches with larger batches",
        epilog="Each branch trains twice the window with k times the batch and its rate times k "
        "(SGD) or sqrt(k) (Adam); the largest k whose smoothed loss is within the tolerance holds.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a study's record")
    parser.add_argument("--trial", type=trial_key, required=True, metavar="B/INDEX", help="which")
    parser.add_argument("--seed", type=whole_number(0), metavar="S", help="(the study's first)")
    parser.add_argument(
        "--window", type=whole_number(1), required=True, metavar="EXAMPLES", help="of each branch"
    )
    parser.add_argument(
        "--at", type=whole_number(1), metavar="STEP", help="to branch from (the trial's middle)"
    )
    parser.add_argument(
        "--tolerance", type=float, default=0.01, metavar="T", help="share of the loss (0.01)"
    )
    parser.add_argument(
        "--factors", type=whole_number(1), nargs="+", default=(1, 2, 4, 8, 16, 32), metavar="K",
        help="of the batch (1 2 4 8 16 32)",
    )  # fmt: skip
    parser.add_argument(
        "--rate", choices=("auto", "linear", "sqrt"), default="auto", help="(by the optimizer)"
    )
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the dataset's files")
    parser.set_defaults(function=branch_command)


def branch_command(options: argparse.Namespace) -> int:
    """Branch, write the page, print the answer."""
    from experiments.report.branch_page import branch_page
    from experiments.report.plain_page import write_plain
    from experiments.runner.branching import Branching, branch

    asked = Branching(
        options.window, options.tolerance, tuple(options.factors), options.at, options.rate
    )
    found = branch(
        options.folder,
        options.trial,
        asked,
        seed=options.seed,
        data_dir=options.data_dir,
        warn=lambda line: print(f"batchscale: warning: {line}", file=sys.stderr),
        say=lambda line: print(line, flush=True),
    )
    batch_size, index = options.trial
    content = branch_page(found, asked.tolerance)
    place = options.folder / "branches" / f"{batch_size}-{index}"
    page = write_plain(place, content, ["batchscale", *options.arguments])
    for name, value in content.facts:
        print(f"{name}: {value}")
    print(f"page: {page}")
    return 0
