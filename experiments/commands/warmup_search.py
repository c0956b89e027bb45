"""``batchscale warmup-search``: the shortest warmup that makes a higher rate usable."""

from __future__ import annotations

import argparse
from typing import Any

from experiments.commands.arguments import positive, whole_number
from experiments.commands.subject import (
    SWEEPS,
    add_subject,
    add_sweep,
    asked,
    refuse,
    told,
)


def add(commands: Any) -> None:
    """The command ``warmup-search``."""
    warmup = commands.add_parser(
        "warmup-search",
        help="how long a warmup a rate above the edge of stability needs",
        epilog="It states its cost before it starts; stopped or killed, the same command goes on.",
    )
    add_subject(warmup)
    add_sweep(warmup)
    warmup.add_argument(
        "--unstable-rate", type=positive, metavar="R", help="of a diagnosis: no sweep is made"
    )
    warmup.add_argument(
        "--seeds", type=whole_number(1), default=3, metavar="R", help="of what is compared (3)"
    )
    warmup.set_defaults(function=warmup_command)


def warmup_command(options: argparse.Namespace) -> int:
    """Run the procedure and print its verdict."""
    from experiments.procedures.warmup_search import warmup_search

    if options.unstable_rate is not None:
        refuse(options, SWEEPS, "beside --unstable-rate: no sweep is made")
    study, folder, given = asked(options, "warmup-search")
    return told(
        warmup_search(
            study, folder, given, unstable_rate=options.unstable_rate, seeds=options.seeds
        )
    )
