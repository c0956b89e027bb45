"""``batchscale evaluate``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from experiments.commands.arguments import trial_key, whole_number

SPLITS = ("test", "validation", "train")


def add(commands: Any) -> None:
    """The command ``evaluate``."""
    evaluate = commands.add_parser("evaluate", help="a trial's best parameters, on a split")
    evaluate.add_argument("folder", type=Path, metavar="DIR", help="a study's record")
    evaluate.add_argument(
        "--trial", type=trial_key, required=True, metavar="B/INDEX", help="which one"
    )
    evaluate.add_argument("--seed", type=whole_number(0), metavar="S", help="(the study's first)")
    evaluate.add_argument("--split", choices=SPLITS, default="validation", help="(validation)")
    evaluate.add_argument("--data-dir", metavar="DIR", help="folder of the dataset's files")
    evaluate.add_argument("--json", action="store_true", help="print JSON")
    evaluate.set_defaults(function=evaluate_command)


def evaluate_command(options: argparse.Namespace) -> int:
    """Repeat the training to the best step, evaluate, print."""
    import dataclasses
    import json

    from experiments.runner.evaluate import evaluate_trial

    found = evaluate_trial(
        options.folder,
        *options.trial,
        seed=options.seed,
        split=options.split,
        data_dir=options.data_dir,
        warn=lambda line: print(f"batchscale: warning: {line}", file=sys.stderr),
    )
    if options.json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
        return 0
    print(f"trial {found.batch_size}/{found.trial} of seed {found.seed}, best at step {found.step}")
    print(f"{'metric':24}{f'{found.split} ({found.examples:,})':>20}{'validation, recorded':>24}")
    for metric, value in found.metrics.items():
        print(f"{metric:24}{value:>20.6g}{found.recorded[f'validation/{metric}']:>24.6g}")
    return 0
