"""``batchscale compare``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.arguments import check_output

if TYPE_CHECKING:
    import polars as pl

    from experiments.analysis.summary import Summary


def add(commands: Any) -> None:
    """The command ``compare``."""
    compare = commands.add_parser("compare", help="studies or comparisons against each other")
    compare.add_argument(
        "folders", type=Path, nargs="+", metavar="DIR", help="records of studies or comparisons"
    )
    compare.add_argument(
        "--against",
        metavar="KEY",
        help="power laws of the critical batch sizes in this number (train_size, goal, ...)",
    )
    compare.add_argument("--reference", metavar="LABEL", help="held against this one (the first)")
    compare.add_argument("--out", type=Path, metavar="DIR", help="write a report here too")
    compare.add_argument("--json", type=Path, metavar="FILE", help="write the numbers here too")
    compare.set_defaults(function=compare_command)


def compare_command(options: argparse.Namespace) -> int:
    """Print ratios, profiles and power laws; refuse what is not of one unit."""
    from experiments.analysis.compare import check_comparable, compared_of
    from experiments.records.files import check_writable
    from experiments.report.comparison import print_comparison, write_comparison_report

    check_output(options.json)
    if options.out is not None:
        check_writable(options.out)
    members = _members(options.folders)
    if len(members) < 2:
        raise ValueError(f"compare needs two studies or more, got {len(members)}")
    if options.reference is not None:
        if options.reference not in members:
            raise ValueError(
                f"--reference must be one of {', '.join(members)}, got {options.reference!r}"
            )
        first = {options.reference: members[options.reference]}
        members = first | members
    if options.against is not None:
        return _against(members, options)
    check_comparable(members)
    compared = compared_of(members, " and ".join(members), "How do these studies compare?")
    print_comparison(compared)
    if options.json is not None:
        tables = {"ratios": compared.ratios, "scores": compared.scores,
                  "profiles": compared.profile, "stability": compared.stability}  # fmt: skip
        _write_json(options.json, {"reference": compared.reference}, tables)
    if options.out is not None:
        print(f"report: {write_comparison_report(options.out, compared)}")
    return 0


def _against(members: dict[str, Summary], options: argparse.Namespace) -> int:
    """Power laws of the critical batch sizes in a number of the studies."""
    from experiments.analysis.power_laws import power_laws
    from experiments.report.plain_page import write_plain
    from experiments.report.power_laws import estimates, power_law_page, print_power_laws

    key = options.against
    table = power_laws(members, key)
    print_power_laws(members, table, key)
    if options.json is not None:
        tables = {"exponents": table, "estimates": estimates(members, key)}
        _write_json(options.json, {"against": key}, tables)
    if options.out is not None:
        again = ["batchscale", "compare", *map(str, options.folders), "--against", key,
                 "--out", str(options.out)]  # fmt: skip
        print(f"report: {write_plain(options.out, power_law_page(members, table, key), again)}")
    return 0


def _write_json(path: Path, said: dict[str, str], tables: dict[str, pl.DataFrame]) -> None:
    """Write tables as lists of rows; an end that is open, infinite, is null."""
    import polars as pl

    from experiments.records.files import write_whole

    floats = pl.col(pl.Float64)
    finite = pl.when(floats.is_finite()).then(floats)
    rows = {name: table.with_columns(finite).to_dicts() for name, table in tables.items()}
    write_whole(path, (json.dumps({**said, **rows}, indent=1) + "\n").encode())
    print(f"written: {path}")


def _members(folders: list[Path]) -> dict[str, Summary]:
    """Label -> summary; a study's label is its folder's name, a member's its own."""
    from experiments.analysis.compare import read_compared
    from experiments.analysis.summary import summarise
    from experiments.records.comparisons import is_comparison
    from experiments.records.store import read

    found: dict[str, Summary] = {}
    for folder in folders:
        own = dict(read_compared(folder).members) if is_comparison(folder) else {
            folder.resolve().name: summarise(read(folder))
        }  # fmt: skip
        for label, summary in own.items():
            if label in found:
                raise ValueError(f"two studies are called {label}: folders must differ in name")
            found[label] = summary
    return found
