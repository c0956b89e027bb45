"""``batchscale clip-threshold``: a fixed clipping threshold from gradient norms.

From those a study has logged (DIR), or, with --study, from trials that it trains first.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from experiments.commands.subject import (
    CHANGES,
    SWEEPS,
    add_subject_options,
    add_sweep,
    asked,
    refuse,
    running_of,
    told,
)


def add(commands: Any) -> None:
    """The command ``clip-threshold``."""
    clip = commands.add_parser(
        "clip-threshold",
        help="a clipping threshold from gradient norms",
        epilog="DIR: from the norms a record holds, or, where it holds none, of its best trial "
        "trained again. --study: by a sweep of the rate, compared at the first unstable one.",
    )
    clip.add_argument("folder", type=Path, nargs="?", metavar="DIR", help="a study's record")
    clip.add_argument(
        "--study", dest="subject", metavar="STUDY|WORKLOAD", help="train what it takes"
    )
    clip.add_argument(
        "--percentile", type=float, default=90.0, metavar="P", help="of the norms (90)"
    )
    add_sweep(clip)
    add_subject_options(clip)
    clip.set_defaults(function=clip_command)


def clip_command(options: argparse.Namespace) -> int:
    """A row a search of a record; or the procedure and its verdict."""
    if (options.folder is None) == (options.subject is None):
        raise ValueError("clip-threshold takes either DIR or --study STUDY")
    return _of_record(options) if options.subject is None else _of_subject(options)


def _of_subject(options: argparse.Namespace) -> int:
    from experiments.procedures.clip_threshold import clip_threshold

    study, folder, given = asked(options, "clip-threshold")
    return told(clip_threshold(study, folder, given, percentile=options.percentile))


def _of_record(options: argparse.Namespace) -> int:
    """Print the table; where norms are recorded at every step, draw them too."""
    from experiments.procedures.logged_norms import logged_thresholds

    refuse(options, (*CHANGES, *SWEEPS), "beside DIR, a record as it is: it changes --study's")
    found = logged_thresholds(
        options.folder, options.percentile, out=options.out, running=running_of(options)
    )
    print("\n".join(found.lines))
    return 0
