"""``batchscale nqm``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.arguments import check_output, whole_number

if TYPE_CHECKING:
    from workloads.oracles.grid import BestConfiguration, GridSearch


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
    """Print the exact table row by row as it becomes known; write it as CSV and as a figure.

    Raises:
      ValueError: an ending of ``--out`` that no figure has, or a folder that does not exist.
      OSError: a file cannot be written.
    """
    from workloads.oracles.grid import GridSearch

    settings = {"goal": options.goal, "batch_sizes": options.batch_sizes}
    given = {name: value for name, value in settings.items() if value is not None}
    _show(GridSearch(options.optimizer, options.power, **given), options.csv, options.out)
    return 0


def _show(search: GridSearch, csv: Path | None, out: Path | None) -> None:
    from experiments.analysis.noisy_quadratic import scaling_table, summary
    from experiments.report.nqm import figure, title
    from experiments.report.one_figure import check_ending, write_figure

    if out:
        check_ending(out)
    for path in (csv, out):
        check_output(path)
    print(f"{title(search)}\n{_heading(search)}", flush=True)
    found = []
    for row in search.rows():
        print(_line(search, row), flush=True)
        found.append(row)
    table = scaling_table(search, found)
    print(summary(table))
    if csv:
        table.write_csv(csv)
        print(f"written: {csv}")
    if out:
        write_figure(figure(search, table), out)
        print(f"written: {out}")


def _line(search: GridSearch, row: BestConfiguration) -> str:
    """A row for a terminal, under `_heading`."""
    from workloads.oracles.grid import COEFFICIENTS

    if row.steps is None:
        return f"{row.batch_size:>10,}  not reached by any configuration of the grid"
    text = f"{row.batch_size:>10,} {row.steps:>12,} {row.steps * row.batch_size:>16,}"
    text += f" {row.learning_rate:>14.4g}"
    if search.optimizer in COEFFICIENTS:
        text += f" {row.coefficient:>22.7g}"
    return text


def _heading(search: GridSearch) -> str:
    """The names of the columns of `_line`."""
    from workloads.oracles.grid import COEFFICIENTS

    text = f"{'batch size':>10} {'steps':>12} {'examples':>16} {'learning rate':>14}"
    if search.optimizer in COEFFICIENTS:
        text += f" {COEFFICIENTS[search.optimizer].replace('_', ' '):>22}"
    return text
