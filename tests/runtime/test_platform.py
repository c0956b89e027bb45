"""The machine's answers, with Linux's own calls and without them."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys

import pytest

from experiments.records.files import Lock, RecordError, check_writable, write_whole
from experiments.runtime import environment, platform

GROWN = 0.01
"""What the peak of this process may rise by, as a share, between two readings of it."""


@pytest.fixture(params=["linux", "without"])
def hidden(request, monkeypatch, tmp_path):
    """The system as it is, and one without its affinity, /proc, malloc_trim and control groups."""
    if request.param == "without":
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        monkeypatch.setattr(platform, "PROC", tmp_path / "no proc")
        monkeypatch.setattr(platform, "CGROUP", tmp_path / "no cgroup")
        monkeypatch.setattr(platform.ctypes, "CDLL", lambda name: object())
        monkeypatch.setattr(sys, "platform", "linux")
    return request.param


def test_cores_names_and_memory_are_answered_everywhere(hidden):
    assert 1 <= platform.cores() <= os.cpu_count()
    assert platform.processor_name() or hidden == "without"
    left, source = platform.available_bytes()
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < left <= whole and source
    platform.reset_peak()
    ballast = bytes(bytearray(os.urandom(1)) * (64 << 20))
    assert platform.process_bytes("peak") > len(ballast)
    assert platform.process_bytes("resident") > len(ballast)
    assert environment.environment()["cores"] == platform.cores()


def test_macos_counts_the_peak_in_bytes(monkeypatch, tmp_path):
    monkeypatch.setattr(platform, "PROC", tmp_path)
    kilobytes = platform.process_bytes("peak")
    monkeypatch.setattr(sys, "platform", "darwin")
    assert platform.process_bytes("peak") == pytest.approx(kilobytes / 1024, rel=GROWN)


def test_a_limit_is_not_set_where_data_are_unknown(monkeypatch, tmp_path):
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    monkeypatch.setattr(platform, "PROC", tmp_path)
    platform.limit_data(0)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_a_folder_is_locked_where_the_file_system_knows_no_flock(monkeypatch, tmp_path):
    def unknown(descriptor, how):
        raise OSError(platform.errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", unknown)
    lock = Lock(tmp_path)
    other = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from pathlib import Path\n"
        "import fcntl, errno\n"
        "def unknown(*a): raise OSError(errno.ENOTSUP, 'no')\n"
        "fcntl.flock = unknown\n"
        "from experiments.records.files import Lock, RecordError\n"
        "try: Lock(Path(sys.argv[1]))\n"
        "except RecordError as error: print(error)\n"
    )
    command = [sys.executable, "-c", other, str(tmp_path), *sys.path]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert f"is being written by process {os.getpid()} on" in said
    lock.release()
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == ""


def test_a_write_is_synced_fully_where_the_system_has_a_call_for_it(monkeypatch, tmp_path):
    called = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda descriptor, what: called.append(what))
    write_whole(tmp_path / "part", b"bytes")
    assert called[0] == 51


@pytest.mark.parametrize("folder", ["file", "file/below", "/proc/nope", "/proc/sys", "/dev/null/x"])
def test_a_folder_that_cannot_be_written_is_known_before_anything_is_made(tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(RecordError, match="cannot be written"):
        check_writable(tmp_path / folder)
    check_writable(tmp_path / "new" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_commit_is_this_checkouts_own_and_never_anothers(tmp_path, monkeypatch):
    def git(*words):
        names = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", "-C", str(tmp_path), *names, *words], check=True)

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "theirs")
    inside = tmp_path / ".venv" / "site-packages" / "experiments" / "runtime" / "environment.py"
    monkeypatch.setattr(environment, "__file__", str(inside))
    inside.parent.mkdir(parents=True)
    assert environment._commit() is None
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "experiments" / "runtime" / "x.py"))
    assert len(environment._commit() or "") >= 7
