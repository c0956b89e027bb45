"""``batchscale plot-schedule``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiments.commands.arguments import settings, whole_number


def add(commands: Any) -> None:
    """The command ``plot-schedule``."""
    plot = commands.add_parser("plot-schedule", help="draw rate, momentum and batch size")
    plot.add_argument(
        "names", nargs="+", metavar="NAME", help="a schedule; of another kind too (cosine smith)"
    )
    plot.add_argument("--steps", type=whole_number(1), default=1000, metavar="N")
    plot.add_argument("--batch-size", type=whole_number(1), default=64, metavar="B")
    plot.add_argument(
        "--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="its settings"
    )
    plot.add_argument(
        "--out", type=Path, metavar="FILE", help="a .png, .svg, .pdf or .html (NAME.png)"
    )
    plot.set_defaults(function=plot_command)


def plot_command(options: argparse.Namespace) -> int:
    """Draw schedules into a file."""
    from experiments.report.schedules import write_schedule

    out = options.out or Path("-".join(options.names) + ".png")
    write_schedule(options.names, out, options.steps, options.batch_size, settings(options.set))
    print(f"written: {out}")
    return 0
