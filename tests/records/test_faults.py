"""The record under real faults: kill -9, a second coordinator, a full disk."""

from __future__ import annotations

import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal
from support import records_child

from experiments.records import groups
from experiments.records.files import TEMPORARY_SUFFIX
from experiments.records.schema import COMMITTED_FILE
from experiments.records.store import RecordError, Writer, read

KILLS = 24
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


@pytest.mark.parametrize(
    ("options", "rows"),
    [
        pytest.param(("--rows", 8000, "--groups", 60, "--compact-at", 1000), 8000, id="commits"),
        pytest.param(("--rows", 1500, "--groups", 50, "--compact-at", 3), 1500, id="compactions"),
    ],
)
def test_kill_9_at_any_moment_loses_and_repeats_nothing(tmp_path, options, rows):
    rng = random.Random(20_191_004)
    kills = in_a_write = rounds = 0
    # A write takes a small share of the time, so killing goes on until one was hit.
    while kills < KILLS // 2 or (in_a_write == 0 and kills < 20 * KILLS):
        folder, rounds = tmp_path / f"round-{rounds}", rounds + 1
        while kill_at_a_random_moment(folder, rng, *options):
            kills += 1
            in_a_write += torn(folder)
            assert_whole(folder, rows)
            if kills >= KILLS // 2 and in_a_write:
                break
    with child(folder, *options) as process:
        assert process.stdout is not None
        assert process.stdout.read() == "ready\ndone\n"
    print(f"{kills} kills, {in_a_write} of them during a write")
    assert in_a_write > 0
    assert not torn(folder), "the last writer removes what the dead ones left"
    with child(tmp_path / "undisturbed", *options) as process:
        process.wait()
    disturbed, undisturbed = read(folder), read(tmp_path / "undisturbed")
    assert disturbed.study == undisturbed.study
    for table in ("trials", "evaluations", "norms"):
        assert_frame_equal(getattr(disturbed, table), getattr(undisturbed, table))


def test_a_reader_beside_a_compacting_writer_sees_every_committed_trial_once(tmp_path):
    with child(tmp_path / "r", "--rows", 20, "--groups", 100, "--compact-at", 2) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        seen, reads = 0, 0
        while process.poll() is None:
            height = read(tmp_path / "r").trials.height
            assert height >= seen, "a committed trial vanished"
            seen, reads = height, reads + 1
            assert_whole(tmp_path / "r", 20)
    assert reads > 5
    assert read(tmp_path / "r").trials.height == 100 * records_child.TRIALS_PER_GROUP


def test_a_second_coordinator_is_refused_by_folder_and_process(tmp_path):
    with child(tmp_path / "r", "--rows", 20, "--groups", 5000) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(RecordError, match=re.escape(str(tmp_path / "r"))) as refused:
            Writer.open(tmp_path / "r", records_child.STUDY)
        assert f"process {process.pid} on " in str(refused.value)
        assert "\n" not in str(refused.value)
        process.kill()
    Writer.open(tmp_path / "r", records_child.STUDY).close()  # its death gave the lock back


def test_a_process_that_only_shares_the_folder_object_is_refused_too(tmp_path):
    with Writer.open(tmp_path, records_child.STUDY), pytest.raises(RecordError, match="written by"):
        Writer.open(tmp_path, records_child.STUDY)
    Writer.open(tmp_path, records_child.STUDY).close()


def assert_full_then_resumes(
    folder: Path, stopped: subprocess.Popen[str], *options: object
) -> None:
    assert stopped.stdout is not None
    ready, line, *rest = stopped.stdout.read().splitlines()
    assert stopped.wait() == 2
    assert ready == "ready" and rest == []
    assert f"the folder {folder} is full" in line and "the same command run again resumes" in line
    before = read(folder).trials
    assert 0 < before.height < 40 * records_child.TRIALS_PER_GROUP
    assert list(folder.rglob(f"*{TEMPORARY_SUFFIX}")) == []


def test_a_write_that_finds_no_room_ends_in_one_line_and_a_record_that_resumes(tmp_path):
    """A limit on the size of a file: the larger, later parts do not fit."""
    folder = tmp_path / "r"
    small, large = ("--groups", 5, "--rows", 100), ("--groups", 40, "--rows", 6000)
    with child(folder, *small) as process:
        process.wait()
    with child(folder, *large, "--limit", 64_000) as stopped:
        assert_full_then_resumes(folder, stopped)
    with child(folder, *large) as process:
        process.wait()
    assert read(folder).trials["status"].to_list() == ["COMPLETE"] * 120


def test_a_full_disk_ends_in_one_line_and_a_record_that_resumes(tmp_path):
    """A disk of 2 MiB where this process may mount one; else the largest file is limited."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    mounted = (
        shutil.which("mount")
        and subprocess.run(mount, check=False, capture_output=True).returncode == 0
    )
    options = ("--groups", 40, "--rows", 4000, "--compact-at", 4)
    try:
        with child(disk / "r", *options, *(() if mounted else ("--limit", 1_000_000))) as stopped:
            assert_full_then_resumes(disk / "r", stopped)
        moved = shutil.copytree(disk / "r", tmp_path / "moved")  # where there is room
    finally:
        if mounted:
            subprocess.run(["umount", str(disk)], check=True)
    with child(moved, *options) as process:
        process.wait()
    assert_whole(moved, 4000)
    assert read(moved).trials["status"].to_list() == ["COMPLETE"] * 120
