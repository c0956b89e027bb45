"""``batchscale ensemble``: several models of a record that predict together."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.arguments import whole_number
from experiments.commands.evaluate import SPLITS

if TYPE_CHECKING:
    from experiments.runner.ensemble import EnsembleResult

KINDS = ("inits", "top", "checkpoints", "average")


def add(commands: Any) -> None:
    """The command ``ensemble``."""
    parser = commands.add_parser(
        "ensemble",
        help="several trained models that predict together, and what that is worth",
        epilog="inits: the best configuration from several initialisations; top: the best trials; "
        "checkpoints: of the best trial's second half; average: their weights' mean. Each is saved "
        "as one checkpoint, in DIR/ensembles/KIND-K/model.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a study's record")
    parser.add_argument("--kind", choices=KINDS, nargs="+", required=True, help="one or several")
    parser.add_argument(
        "--size", type=whole_number(2), required=True, metavar="K", help="members of each"
    )
    parser.add_argument(
        "--seed", type=whole_number(0), metavar="S", help="trials of this search (of all)"
    )
    parser.add_argument("--split", choices=SPLITS, default="validation", help="(validation)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the dataset's files")
    parser.set_defaults(function=ensemble_command)


def ensemble_command(options: argparse.Namespace) -> int:
    """Make the ensembles, save them, write the page, print their worth."""
    from experiments.report.ensemble_page import drawn, numbers_table
    from experiments.report.plain_page import PlainPage, write_plain
    from experiments.runner.ensemble import as_tables, make_ensemble, save_into

    found: dict[str, EnsembleResult] = {}
    for kind in dict.fromkeys(options.kind):
        found[kind] = make_ensemble(
            options.folder,
            kind,
            options.size,
            split=options.split,
            search=options.seed,
            data_dir=options.data_dir,
            warn=lambda line: print(f"batchscale: warning: {line}", file=sys.stderr),
            say=lambda line: print(line, flush=True),
        )
    places = [save_into(options.folder, one, options.size) for one in found.values()]
    numbers, sizes, bins = as_tables(found)
    shown = numbers_table(numbers)
    title = f"Ensembles of {options.size} of {options.folder.name}"
    content = PlainPage(title, _facts(found, options.split), shown, numbers, drawn(sizes, bins))
    page = write_plain(options.folder / "ensembles", content, ["batchscale", *options.arguments])
    for line in (shown.columns, *shown.rows):
        print("".join(cell.ljust(24) for cell in line).rstrip())
    for name, value in _facts(found, options.split):
        print(f"{name}: {value}")
    for place in places:
        print(f"model: {place}")
    print(f"page: {page}")
    return 0


def _facts(found: dict[str, EnsembleResult], split: str) -> list[tuple[str, str]]:
    """The members and the cost of each kind."""
    first = next(iter(found.values()))
    facts = [("Evaluated on", f"{first.examples:,} examples of the {split} split")]
    for kind, one in found.items():
        count = len(one.ensemble.members)
        training, predicting = one.seconds
        facts.append((f"Members, {kind}", "; ".join(m.name for m in one.ensemble.members)))
        cost = (
            f"{one.trained_examples:,} examples trained beyond the record's, {training:.1f} s; a "
            f"prediction takes {count} forward pass{'es' if count > 1 else ''}, {predicting:.2g} s "
            "for the split"
        )
        facts.append((f"Cost, {kind}", cost))
    return facts
