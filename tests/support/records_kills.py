"""Writers of records killed with kill -9: a few times in the suite, often in ``make soak``."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
from polars.testing import assert_frame_equal

from experiments.records import groups
from experiments.records.schema import COMMITTED_FILE
from experiments.records.store import read
from support import records_child

LONGEST_LIFE = 0.12  # seconds from the first write to the kill


def child(folder: Path, *options: object) -> subprocess.Popen[str]:
    """A coordinator of its own process, about to write."""
    command = [sys.executable, records_child.__file__, str(folder), *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def torn(folder: Path) -> bool:
    """Whether a write or a compaction was cut short: a part that is of no live group."""
    records = groups.RecordsFolder(folder / "records", records_child.STUDY["identity"])
    live = {
        records.part(table, group.number).name
        for group, _ in records.committed()
        for table in group.parts
    }
    return any(path.name not in live | {COMMITTED_FILE} for path in records.path.iterdir())


def assert_whole(folder: Path, rows: int) -> None:
    """Every trial once, with all its measurements or, INCOMPLETE, none."""
    record = read(folder)
    key = ["batch_size", "seed", "trial"]
    assert record.trials.select(key).is_duplicated().sum() == 0
    counts = record.evaluations.group_by(key).agg(pl.len(), pl.col("step").n_unique().alias("n"))
    complete = record.trials.filter(pl.col("status") == "COMPLETE").select(key)
    assert counts.select(key).sort(key).equals(complete.sort(key))
    assert (counts["len"] == rows).all() and (counts["n"] == rows).all()
    with_norms = complete.filter(pl.col("trial") > 0)
    assert (0 if record.norms is None else record.norms.height) == with_norms.height * rows
    # A group is committed whole: its trials are recorded together.
    assert set(record.trials.group_by("batch_size").len()["len"]) <= {
        records_child.TRIALS_PER_GROUP
    }


def kill_at_a_random_moment(folder: Path, rng: random.Random, *options: object) -> bool:
    """Kills a real writer -9; whether it died before its work was done."""
    delay = rng.uniform(0, LONGEST_LIFE)
    with child(folder, *options) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        finished = "done" in process.stdout.read()
    print(f"killed {delay:.4f} s after the first write, work finished: {finished}")
    return not finished


STORMS = {
    "commits": ("--rows", 8000, "--groups", 60, "--compact-at", 1000),
    "compactions": ("--rows", 1500, "--groups", 50, "--compact-at", 3),
}


def kill_storm(folder: Path, options: tuple, kills: int) -> int:
    """Kill writers at random moments until ``kills`` died at work; how many were in a write.

    After each kill the record is whole, and in the end it is the one of an undisturbed writer.
    """
    rng = random.Random(20_191_004)
    rows, done, in_a_write, rounds = options[1], 0, 0, 0
    while done < kills:
        place, rounds = folder / f"round-{rounds}", rounds + 1
        while done < kills and kill_at_a_random_moment(place, rng, *options):
            done += 1
            in_a_write += torn(place)
            assert_whole(place, rows)
    with child(place, *options) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "ready\ndone\n"
    assert not torn(place), "the last writer removes what the dead ones left"
    with child(folder / "undisturbed", *options) as process:
        process.wait()
    disturbed, undisturbed = read(place), read(folder / "undisturbed")
    assert disturbed.study == undisturbed.study
    for table in ("trials", "evaluations", "norms"):
        assert_frame_equal(getattr(disturbed, table), getattr(undisturbed, table))
    return in_a_write
