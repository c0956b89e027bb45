"""The record under real faults: kill -9, a second coordinator, a full disk."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support import records_child
from support.records_kills import STORMS, assert_whole, child, kill_storm

from experiments.records.files import TEMPORARY_SUFFIX
from experiments.records.store import RecordError, Writer, read

KILLS = 2
"""In the suite; test_damage.py interrupts at every call, ``make soak`` kills a hundred times."""


@pytest.mark.parametrize("storm", STORMS)
def test_kill_9_at_any_moment_loses_and_repeats_nothing(tmp_path, storm):
    kill_storm(tmp_path, STORMS[storm], KILLS)


def test_a_reader_beside_a_compacting_writer_sees_every_committed_trial_once(tmp_path):
    with child(tmp_path / "r", "--rows", 20, "--groups", 60, "--compact-at", 2) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        seen, reads = 0, 0
        while process.poll() is None:
            height = read(tmp_path / "r").trials.height
            assert height >= seen, "a committed trial vanished"
            seen, reads = height, reads + 1
            assert_whole(tmp_path / "r", 20)
    assert reads > 5
    assert read(tmp_path / "r").trials.height == 60 * records_child.TRIALS_PER_GROUP


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
