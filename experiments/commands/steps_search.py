"""``batchscale steps-search``: how many steps to train for."""

from __future__ import annotations

import argparse
from typing import Any

from experiments.commands.subject import (
    add_subject,
    add_sweep,
    chosen_subject,
    folder_of,
    running_of,
    told,
    words_of,
)


def add(commands: Any) -> None:
    """The command ``steps-search``."""
    steps = commands.add_parser(
        "steps-search",
        help="how many steps to train for",
        epilog="It states its cost before it starts; stopped or killed, the same command goes on.",
    )
    add_subject(steps)
    add_sweep(steps)
    steps.set_defaults(function=steps_command)


def steps_command(options: argparse.Namespace) -> int:
    """Run the procedure and print its verdict."""
    study = chosen_subject(options)
    from experiments.procedures.steps_search import steps_search

    return told(
        steps_search(
            study,
            folder_of(options, "steps-search", study),
            batch_size=options.batch_size,
            steps=options.steps,
            rates=None if options.rates is None else tuple(options.rates),
            factor=options.factor,
            subject=words_of(options),
            running=running_of(options),
        )
    )
