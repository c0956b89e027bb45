"""``batchscale repeat``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from experiments.commands.arguments import positive, whole_number
from experiments.commands.report import summarise

SEEDS = 10
"""Fresh seeds whose second to ninth steps enclose the median with 97.9 %."""


def add(commands: Any) -> None:
    """The command ``repeat``."""
    repeat = commands.add_parser(
        "repeat", help="train the best configurations again, with fresh seeds"
    )
    repeat.add_argument("folder", type=Path, metavar="DIR", help="a study's record")
    repeat.add_argument(
        "--best",
        action="store_true",
        required=True,
        help="of every batch size the best configuration of all searches",
    )
    repeat.add_argument(
        "--seeds", type=whole_number(1), default=SEEDS, metavar="R", help=f"fresh seeds ({SEEDS})"
    )
    repeat.add_argument("--data-dir", metavar="DIR", help="folder of the dataset's files")
    repeat.add_argument("--keep-going", action="store_true", help="go on after one that raises")
    repeat.add_argument(
        "--checkpoint-minutes",
        type=positive,
        default=5.0,
        metavar="M",
        help="save a trial that has run so long, then every M minutes (5; inf)",
    )
    repeat.set_defaults(function=repeat_command)


def repeat_command(options: argparse.Namespace) -> int:
    """Train, then report the study with its repeats."""
    from experiments.commands.progress import shown_progress
    from experiments.records.store import read_study
    from experiments.runner.repeat import repeat_best
    from experiments.spec.study import reopened, unpruned

    study = reopened(read_study(options.folder))
    with shown_progress(unpruned(study, trials=options.seeds)) as observe:
        repeat_best(
            options.folder,
            options.seeds,
            data_dir=options.data_dir,
            keep_going=options.keep_going,
            checkpoint_minutes=options.checkpoint_minutes,
            observe=observe,
            warn=lambda line: print(f"batchscale: warning: {line}", file=sys.stderr),
        )
    return summarise(options.folder)
