"""``batchscale clip-threshold``: a fixed clipping threshold from the norms a study has logged."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """The command ``clip-threshold``."""
    clip = commands.add_parser("clip-threshold", help="a clipping threshold from logged norms")
    clip.add_argument("folder", type=Path, metavar="DIR")
    clip.add_argument(
        "--percentile", type=float, default=90.0, metavar="P", help="of the norms (90)"
    )
    clip.set_defaults(function=clip_command)


def clip_command(options: argparse.Namespace) -> int:
    """A row a search: the best trial's norms and the threshold they suggest."""
    from experiments.analysis.clip_threshold import clip_thresholds
    from experiments.records.store import read

    table = clip_thresholds(read(options.folder), options.percentile)
    rows: list[tuple[str, ...]] = [
        ("batch size", "seed", "trial", "norms", "median", "threshold", "largest")
    ]
    rows += [
        tuple(f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}" for cell in row)
        for row in table.iter_rows()
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))
    print(
        f"threshold: percentile {options.percentile:g} of the unclipped norms of the best trial;\n"
        "use it with: batchscale run STUDY --clipping global_norm --fix clip_threshold=..."
    )
    return 0
