"""The command ``batchscale``. It parses, calls one function, and turns failures into one line.

Exit codes: 0 done; 1 the study could not go on (what finished is recorded); 2 bad input, nothing
on disk was changed; 75 told to end by SIGTERM, running trials are saved: run it again; 130
interrupted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from experiments.commands import COMMANDS

RESUME_ME = 75
"""EX_TEMPFAIL of sysexits.h: what a scheduler may take for "run it again"."""


class _Parser(argparse.ArgumentParser):
    """Errors are one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        print(f"batchscale: error: {message}", file=sys.stderr)
        raise SystemExit(2)


def build_parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    parser = _Parser(
        prog="batchscale",
        description="Batch-size scaling studies in JAX.",
        epilog="Exit codes: 0 done; 1 the study could not go on; 2 bad input; 75 told to end "
        "(SIGTERM), running trials are saved and the same command goes on; 130 interrupted.",
    )
    parser.add_argument("--traceback", action="store_true", help="show where an error came from")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add(commands)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = build_parser().parse_args(arguments)
    options.arguments = arguments
    try:
        return options.function(options)
    except KeyboardInterrupt as stop:
        from experiments.spec.errors import Preempted

        told = isinstance(stop, Preempted)
        command = "batchscale " + " ".join(a for a in arguments if a != "--no-resume")
        what = "told to end; running trials are saved" if told else "interrupted"
        print(f"\n{what}; what finished is recorded. Go on with: {command}", file=sys.stderr)
        return RESUME_ME if told else 130
    except BrokenPipeError:
        return 0
    except Exception as error:
        from experiments.records.store import RecordError
        from experiments.spec.errors import StudyError
        from workloads.datasets.base import DataError

        if options.traceback:
            raise
        line = " ".join(str(error).split())
        if isinstance(error, (ValueError, OSError, RecordError, DataError, StudyError)):
            print(f"batchscale: error: {line}", file=sys.stderr)
            return 1 if isinstance(error, StudyError) else 2
        print(
            f"batchscale: defect: {type(error).__name__}: {line} "
            "(please report it with what --traceback shows)",
            file=sys.stderr,
        )
        return 1
