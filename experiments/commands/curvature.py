"""``batchscale curvature``: spectrum, sharpness, gradients and landscape of a trained trial."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from experiments.commands.arguments import trial_key, whole_number
from experiments.commands.evaluate import SPLITS

PARTS = ("spectrum", "sharpness", "gradients", "landscape")


def add(commands: Any) -> None:
    """The command ``curvature``."""
    parser = commands.add_parser(
        "curvature",
        help="a trial's eigenvalues, sharpness, gradient noise and loss landscape",
        epilog="A trial without a checkpoint at its best step is trained again to it. Time and "
        "memory are said before they are spent.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a study's record")
    parser.add_argument("--trial", type=trial_key, required=True, metavar="B/INDEX", help="which")
    parser.add_argument("--seed", type=whole_number(0), metavar="S", help="(the study's first)")
    parser.add_argument(
        "--against", type=trial_key, metavar="B/INDEX", help="a second one, for lines between them"
    )
    parser.add_argument("--measure", choices=PARTS, nargs="+", default=PARTS, help="(all of them)")
    parser.add_argument(
        "--examples", type=whole_number(1), default=1024, metavar="N", help="of training (1024)"
    )
    parser.add_argument(
        "--order", type=whole_number(1), default=90, metavar="K", help="Lanczos steps (90)"
    )
    parser.add_argument(
        "--draws", type=whole_number(1), default=3, metavar="M", help="of the density (3)"
    )
    parser.add_argument(
        "--probes", type=whole_number(1), default=50, metavar="P", help="of the trace (50)"
    )
    parser.add_argument(
        "--iterations", type=_iterations, nargs="+", default=(10, None), metavar="N",
        help="of L-BFGS-B for the sharpness, or convergence; several are measured apart "
        "(10 convergence)",
    )  # fmt: skip
    parser.add_argument(
        "--restarts", type=whole_number(1), default=1, metavar="R", help="of that search (1)"
    )
    parser.add_argument(
        "--random-matrix", choices=("normal", "orthonormal"), default="normal",
        help="the 100 random directions of the sharpness: their entries or columns (normal)",
    )  # fmt: skip
    parser.add_argument(
        "--steps", type=whole_number(2), default=20, metavar="T",
        help="whose successive gradients are compared (20)",
    )  # fmt: skip
    parser.add_argument(
        "--block", default="", metavar="REGEX", help="curvature of the parameters it is found in"
    )
    parser.add_argument("--split", choices=SPLITS, default="validation", help="(validation)")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the dataset's files")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="of the page (DIR/curvature/B-INDEX)"
    )
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON alone")
    parser.set_defaults(function=curvature_command)


def _iterations(text: str) -> int | None:
    """A whole number of at least 1, or None for convergence."""
    return None if text == "convergence" else whole_number(1)(text)


def curvature_command(options: argparse.Namespace) -> int:
    """Measure, write the page, print the numbers."""
    import json

    from experiments.report.plain_page import PlainPage, write_plain
    from experiments.report.trial_curvature import drawn, numbers_table
    from experiments.runner.curvature import CurvatureRequest, measure
    from experiments.runner.curvature_sharpness import SharpnessSearch

    said = sys.stderr if options.json else sys.stdout
    asked = CurvatureRequest(
        tuple(options.measure),
        options.examples,
        options.order,
        options.draws,
        options.probes,
        options.block,
        options.split,
        search=SharpnessSearch(tuple(options.iterations), options.restarts, options.random_matrix),
        steps=options.steps,
    )
    found = measure(
        options.folder,
        options.trial,
        asked,
        seed=options.seed,
        against=options.against,
        data_dir=options.data_dir,
        warn=lambda line: print(f"batchscale: warning: {line}", file=sys.stderr),
        say=lambda line: print(line, file=said, flush=True),
    )
    batch_size, index = options.trial
    out = options.out or options.folder / "curvature" / f"{batch_size}-{index}"
    shown, figures = numbers_table(found.numbers), drawn(found.curves)
    title = f"Curvature of trial {found.trial}"
    content = PlainPage(title, found.facts, shown, found.numbers, figures)
    page = write_plain(out, content, ["batchscale", *options.arguments])
    if options.json:
        print(json.dumps(found.numbers.to_dicts(), indent=2))
        return 0
    print(f"trial {found.trial}, best at step {found.step:,}")
    if found.against:
        print(f"{'':64}{found.trial:>20}{'':10}{found.against:>20}")
    for quantity, *cells, _ in shown.rows:
        pairs = zip(cells[::2], cells[1::2], strict=True)
        told = "".join(f"{v:>20}{f' ± {e}' if e else '':10}" for v, e in pairs)
        print(f"{quantity:64}{told}".rstrip())
    print(f"page: {page}")
    return 0
