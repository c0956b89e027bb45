"""One of several processes that train a study together, watched by a parent that uses no device.

When one of them dies, jax's runtime ends the others by a signal, with a report of its own. The
parent turns that into one line and an exit code.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from typing import Any

from experiments.commands.arguments import whole_number

MEMBER = "BATCHSCALE_MEMBER"
"""Set in the environment of the process that trains: the descriptor by which it tells its parent
that it has met the others."""
JOIN_SECONDS = 60
# Without interpreter shutdown: jax would wait there for processes that may be gone.
_RUN = """
import os, sys
from experiments.cli import main
code = main(sys.argv[1:])
sys.stdout.flush()
sys.stderr.flush()
os._exit(code)
"""


def add_options(run: argparse.ArgumentParser) -> None:
    """The options of ``run`` for several processes."""
    group = run.add_argument_group("several processes, one command each, by shard_map")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="where process 0 listens")
    group.add_argument("--processes", type=whole_number(2), metavar="N", help="how many")
    group.add_argument("--process-id", type=whole_number(0), metavar="I", help="0 to N - 1")
    group.add_argument(
        "--join-seconds",
        type=whole_number(1),
        default=JOIN_SECONDS,
        metavar="S",
        help=f"wait so long for all to come ({JOIN_SECONDS})",
    )


def is_one_of_several(options: argparse.Namespace, study: Any) -> bool:
    """Tell whether this process trains with others; ValueError where the options do not say how."""
    from experiments.spec.fields import StudyFields

    given = (options.coordinator, options.processes, options.process_id)
    if given == (None, None, None):
        return False
    if None in given:
        raise ValueError("--coordinator, --processes and --process-id go together")
    if options.process_id >= options.processes:
        raise ValueError(
            f"--process-id must be below --processes {options.processes}, got {options.process_id}"
        )
    if not re.fullmatch(r"([^:\s]+|\[[0-9a-fA-F:]+\]):[0-9]{1,5}", options.coordinator):
        raise ValueError(f"--coordinator must be HOST:PORT, got {options.coordinator!r}")
    if not isinstance(study, StudyFields):
        raise ValueError(  # noqa: TRY004 (the user's input, not an argument)
            f"--coordinator has no place in {study.name}"
        )
    if options.executor == "ray":
        raise ValueError(
            "several processes train in threads, by shard_map: no place for --executor ray"
        )
    if options.parallel == "pmap" or options.mesh is not None:
        raise ValueError(
            "several processes train every trial over all their devices, by shard_map: no place "
            "for --parallel pmap or --mesh"
        )
    return True


def is_member() -> bool:
    """Tell whether this is the process that trains."""
    return MEMBER in os.environ


def join(options: argparse.Namespace) -> None:
    """Meet the other processes, in the process that trains."""
    from experiments.runtime import hosts

    hosts.join(options.coordinator, options.processes, options.process_id, options.join_seconds)
    os.write(int(os.environ[MEMBER]), b"joined")


def watched(options: argparse.Namespace) -> int:
    """Run the command in a child; its exit code, or 1 and one line where a signal ended it.

    SIGTERM is passed on; Ctrl-C reaches the child by itself.
    """
    heard, told = os.pipe()
    path = os.pathsep.join(entry for entry in sys.path if entry)
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", _RUN, *options.arguments],
        env={**os.environ, MEMBER: str(told), "PYTHONPATH": path},
        pass_fds=[told],
    )
    os.close(told)
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: child.terminate()),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
    }
    try:
        code = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    joined = os.read(heard, 1)
    os.close(heard)
    if code >= 0:
        return code
    me = f"process {options.process_id} of {options.processes}"
    if joined:
        line = (
            f"{me} was ended by {signal.Signals(-code).name}, as happens when another process of "
            "the study is gone; what finished is recorded, and the same commands go on"
        )
    else:
        line = (
            f"{me} did not meet the others at {options.coordinator} within "
            f"{options.join_seconds} s: all must be started with the same --coordinator and "
            "--processes, and must reach that address"
        )
    print(f"batchscale: error: {line}", file=sys.stderr)
    return 1
