"""``batchscale diagnose``: is training stable, what limits the learning rate, what cures it."""

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
    study = chosen_subject(options)
    from experiments.procedures.diagnose import diagnose

    return told(
        diagnose(
            study,
            folder_of(options, "diagnose", study),
            batch_size=options.batch_size,
            steps=options.steps,
            rates=None if options.rates is None else tuple(options.rates),
            factor=options.factor,
            fix=options.fix,
            subject=words_of(options),
            running=running_of(options),
        )
    )
