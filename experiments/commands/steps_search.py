"""``batchscale steps-search``: how many steps to train for."""

from __future__ import annotations

import argparse
from typing import Any

from experiments.commands.subject import add_subject, add_sweep, asked, told


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
    from experiments.procedures.steps_search import steps_search

    study, folder, given = asked(options, "steps-search")
    return told(steps_search(study, folder, given))
