"""``batchscale diagnose``: is training stable, what limits the learning rate, what cures it."""

from __future__ import annotations

import argparse
from typing import Any

from experiments.commands.subject import add_subject, add_sweep, asked, told


def add(commands: Any) -> None:
    """The command ``diagnose``."""
    diagnose = commands.add_parser(
        "diagnose",
        help="is training stable, and what limits the learning rate",
        epilog="It states its cost before it starts; stopped or killed, the same command goes on.",
    )
    add_subject(diagnose)
    add_sweep(diagnose)
    diagnose.add_argument("--fix", action="store_true", help="try the remedies in their order")
    diagnose.set_defaults(function=diagnose_command)


def diagnose_command(options: argparse.Namespace) -> int:
    """Run the procedure and print its verdict."""
    from experiments.procedures.diagnose import diagnose

    study, folder, given = asked(options, "diagnose")
    return told(diagnose(study, folder, given, fix=options.fix))
