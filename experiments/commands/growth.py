"""``batchscale growth``: what growing the batch in place of decaying the rate is equivalent to."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl


def add(commands: Any) -> None:
    """The command ``growth``."""
    growth = commands.add_parser(
        "growth", help="growing the batch against decaying the rate, computed exactly"
    )
    growth.add_argument(
        "--csv", type=Path, metavar="DIR", help="write smith, equivalence and order.csv here too"
    )
    growth.set_defaults(function=growth_command)


def growth_command(options: argparse.Namespace) -> int:
    """Print the three tables of analysis/growth.py, and write them as CSV.

    Raises:
      ValueError: ``--csv`` is no folder.
    """
    from experiments.analysis.growth import TITLES, tables

    if options.csv and not options.csv.is_dir():
        raise ValueError(f"--csv must be a folder that exists, got {options.csv}")
    for name, table in tables().items():
        print(f"{TITLES[name]}\n")
        print("\n".join(aligned(table)), end="\n\n")
        if options.csv:
            table.write_csv(options.csv / f"{name}.csv")
            print(f"written: {options.csv / f'{name}.csv'}\n")
    return 0


def aligned(table: pl.DataFrame) -> list[str]:
    """A table as lines of text, numbers to four digits and to the right."""
    rows = [tuple(name.replace("_", " ") for name in table.columns)]
    rows += [tuple(map(_cell, row)) for row in table.rows()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    left = [str(kind) == "String" for kind in table.dtypes]
    return [
        "  ".join(
            cell.ljust(width) if text else cell.rjust(width)
            for cell, width, text in zip(row, widths, left, strict=True)
        ).rstrip()
        for row in rows
    ]


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
