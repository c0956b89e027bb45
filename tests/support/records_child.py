"""A real coordinator for the fault tests: writes a known record until done or killed.

    python records_child.py FOLDER [--groups N] [--rows N] [--compact-at N] [--limit BYTES]

Its results are functions of (batch size, seed, trial) alone, so that a record written through
any number of deaths can be compared with one written undisturbed. It prints ``ready`` before
its first write and ``done`` after its last; a RecordError is printed and exits 2.
"""

from __future__ import annotations

import argparse
import resource
import sys

import numpy as np
import polars  # noqa: F401  imported before the first write, not within it

from experiments.records import compaction
from experiments.records.schema import NORM_COLUMNS
from experiments.records.store import RecordError, Writer
from experiments.spec.trial import Status, Trial, TrialResult

STUDY = {
    "identity": "child",
    "study": {"name": "child", "trials": 3, "seeds": [0], "batch_sizes": [], "train_steps": {}},
    "hyperparameters": ["learning_rate"],
}
TRIALS_PER_GROUP = 3


def result(batch_size: int, index: int, rows: int, status: Status) -> TrialResult:
    """The outcome of a trial: measurements drawn from its key."""
    rng = np.random.default_rng([batch_size, index])
    trial = Trial(
        batch_size, 0, index, rows, {"learning_rate": rng.random()}, f"{batch_size}-{index}"
    )
    if status == Status.INCOMPLETE:
        return TrialResult(trial, status, 0, {}, message="lost its device")
    steps = np.arange(1, rows + 1)
    evaluations = {"step": steps, "validation/error": rng.random(rows)}
    # Norms are most of the bytes, so most of the time a group is partly written.
    norms = {"step": steps, **{name: rng.random(rows) for name in NORM_COLUMNS}} if index else None
    return TrialResult(trial, status, rows, evaluations, norms)


def write(folder: str, number_of_groups: int, rows: int) -> None:
    """Writes what is not recorded yet; every fifth group's first trial at first fails."""
    with Writer.open(folder, STUDY) as writer:
        print("ready", flush=True)
        for rerun in (False, True):
            for group in range(number_of_groups):
                results = []
                for index in range(TRIALS_PER_GROUP):
                    fails = not rerun and index == 0 and group % 5 == 0
                    status = Status.INCOMPLETE if fails else Status.COMPLETE
                    recorded = writer.status((group + 1, 0, index))
                    if recorded is None or (rerun and recorded == Status.INCOMPLETE):
                        results.append(result(group + 1, index, rows, status))
                writer.commit(results)
    print("done", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--groups", type=int, default=40)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--compact-at", type=int, default=compaction.MOST_SMALL_GROUPS)
    parser.add_argument("--limit", type=int)
    arguments = parser.parse_args()
    compaction.MOST_SMALL_GROUPS = arguments.compact_at
    if arguments.limit:
        sys.dont_write_bytecode = True  # half of it would be kept
        resource.setrlimit(resource.RLIMIT_FSIZE, (arguments.limit, arguments.limit))
    try:
        write(arguments.folder, arguments.groups, arguments.rows)
    except RecordError as error:
        print(error, flush=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
