"""``batchscale data``."""

from __future__ import annotations

import argparse
from typing import Any

from experiments.commands.arguments import settings


def add(commands: Any) -> None:
    """The command ``data``."""
    data = commands.add_parser("data", help="prepare, verify and describe a dataset")
    data.add_argument("name", metavar="NAME", help="a dataset, e.g. fashion_mnist")
    data.add_argument("--data-dir", metavar="DIR", help="folder of its files (text: or a file)")
    data.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="its options, e.g. train_examples=1000",
    )
    data.set_defaults(function=data_command)


def data_command(options: argparse.Namespace) -> int:
    """Load, which prepares and verifies, and describe."""
    from workloads.datasets import options_from_text
    from workloads.datasets.describe import describe, lines

    chosen = options_from_text(options.name, settings(options.set))
    print("\n".join(lines(describe(options.name, options.data_dir, **chosen))))
    return 0
