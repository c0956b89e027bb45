"""``batchscale export``: a record in forms that others read."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

FORMS = ("batch_science", "csv", "parquet", "optuna")


def add(commands: Any) -> None:
    """The command ``export``."""
    export = commands.add_parser("export", help="a record for other programs")
    export.add_argument("folder", type=Path, metavar="DIR", help="a study's record")
    export.add_argument(
        "--to",
        choices=FORMS,
        required=True,
        help="the archive of Shallue et al. (2019), tables, or an Optuna study",
    )
    export.add_argument("out", type=Path, metavar="OUT", help="a new folder; for Optuna a new file")
    export.set_defaults(function=export_command)


def export_command(options: argparse.Namespace) -> int:
    """Write, say where."""
    from experiments.records.exchange.export import export_batch_science
    from experiments.records.exchange.tables import export_tables

    if options.to == "batch_science":
        export_batch_science(options.folder, options.out)
    elif options.to == "optuna":
        from experiments.records.exchange.optuna import export_optuna

        export_optuna(options.folder, options.out)
    else:
        export_tables(options.folder, options.out, options.to)
    print(f"written: {options.out}")
    return 0
