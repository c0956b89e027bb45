"""The command ``batchscale``. It parses, calls one function, and turns failures into one line.

Exit codes: 0 done; 1 the study could not go on (what finished is recorded); 2 bad input, nothing
on disk was changed; 75 told to end by SIGTERM, running trials are saved: run it again; 130
interrupted.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from experiments.commands import COMMANDS
from experiments.commands.output import Steady, steady

INTERRUPTED = 130
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
    with steady() as (output, _):
        code = _done(options)
        output.flush()
        return _told(code, output)


def _done(options: argparse.Namespace) -> int:
    """Do what was asked for; a failure is one line and an exit code."""
    from experiments.runtime.stopping import EndedAtOnce, Preempted, listening

    try:
        with listening():
            code: int = options.function(options)
            return code
    except KeyboardInterrupt as stop:
        told = isinstance(stop, Preempted)
        words = (word for word in options.arguments if word != "--no-resume")
        command = shlex.join(["batchscale", *words])
        what = "told to end; running trials are saved" if told else "interrupted"
        print(f"\n{what}; what finished is recorded. Go on with: {command}", file=sys.stderr)
        if isinstance(stop, EndedAtOnce):  # its workers are still at a chunk: wait for none
            sys.stderr.flush()
            os._exit(INTERRUPTED)
        return RESUME_ME if told else INTERRUPTED
    except Exception as error:
        if options.traceback:
            raise
        return _said(error)


def _told(code: int, output: Steady) -> int:
    """The exit code, and a line where standard output was lost.

    A reader that has read enough (``| head``) is no failure; a disk that is full is.
    """
    if output.error is None or isinstance(output.error, BrokenPipeError):
        return code
    reason = os.strerror(output.error.errno or 0)
    print(f"batchscale: error: standard output was not written ({reason})", file=sys.stderr)
    return code or 1


def _said(error: Exception) -> int:
    """One line that says what failed; the exit code."""
    from experiments.records.files import FULL, DiskError, RecordError
    from experiments.spec.errors import StudyError, inert
    from workloads.datasets.base import DataError

    line = inert(" ".join(str(error).split()))
    if isinstance(error, (StudyError, DiskError)):
        code = 1
    elif isinstance(error, (ValueError, OSError, RecordError, DataError)):
        code = 1 if isinstance(error, OSError) and error.errno in FULL else 2
    else:
        kind = type(error).__name__
        line = f"{kind}: {line} (please report it with what --traceback shows)"
        print(f"batchscale: defect: {line}", file=sys.stderr)
        return 1
    print(f"batchscale: error: {line}", file=sys.stderr)
    return code
