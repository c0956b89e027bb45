"""``batchscale data``."""

from __future__ import annotations

import argparse
from typing import Any


def add(commands: Any) -> None:
    """The command ``data``."""
    data = commands.add_parser("data", help="prepare, verify and describe a dataset")
    data.add_argument("name", metavar="NAME", help="a dataset, e.g. fashion_mnist")
    data.add_argument("--data-dir", metavar="DIR", help="folder of its files (text: or a file)")
    data.set_defaults(function=data_command)


def data_command(options: argparse.Namespace) -> int:
    """Load, which prepares and verifies, and describe."""
    from workloads.datasets.describe import describe, lines

    print("\n".join(lines(describe(options.name, options.data_dir))))
    return 0
