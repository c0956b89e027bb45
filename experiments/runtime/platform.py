"""Differences of Linux and macOS: cores, memory, locks, durable writes. Imports no jax.

Linux answers through ``sched_getaffinity`` and ``/proc``; where these are missing, the portable
call beside each answers instead.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from typing import Literal

PROC = Path("/proc")
CGROUP = Path("/sys/fs/cgroup")
_NO_FLOCK = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


def cores() -> int:
    """Processor cores that this process may use; at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def processor_name() -> str:
    """The processor's name as its maker gives it; the architecture where nothing says it."""
    names = re.findall(r"^model name\s*:\s*(.+)$", _text(PROC / "cpuinfo"), re.MULTILINE)
    if names:
        return str(names[0]).strip()
    return _output("sysctl", "-n", "machdep.cpu.brand_string") or platform.processor()


def process_exists(pid: int) -> bool:
    """Tell whether a process of this host has that number."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def available_bytes() -> tuple[int, str]:
    """(bytes of memory that programs may still take, what says so).

    The least of what the system calls available (on macOS: its whole memory) and what the
    control group leaves.
    """
    available = _kilobytes(PROC / "meminfo", "MemAvailable")
    if available is None:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    left = _cgroup_left()
    if left is not None and left < available:
        return left, "the control group"
    return available, "the system's available memory"


def process_bytes(what: Literal["resident", "peak", "data"]) -> int:
    """Memory of this process: resident now, resident at its peak, or data; 0 where unknown."""
    field = {"resident": "VmRSS", "peak": "VmHWM", "data": "VmData"}[what]
    found = _kilobytes(PROC / "self" / "status", field)
    if found is not None:
        return found
    if what == "resident":
        return 1024 * int(_output("ps", "-o", "rss=", "-p", str(os.getpid())) or 0)
    return _peak_from_usage() if what == "peak" else 0


def reset_peak() -> None:
    """Give free memory back and start the peak of `process_bytes` anew, where that is possible."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    if (PROC / "self" / "clear_refs").exists():
        (PROC / "self" / "clear_refs").write_text("5")


def limit_data(more: int) -> None:
    """Refuse this process more than ``more`` further bytes of data; nothing where data are unknown.

    An allocation beyond it fails, before the system kills some process for it.
    """
    import resource

    data = process_bytes("data")
    if not data:
        return
    limit = data + max(more, 0)
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, most))


def lock(descriptor: int) -> None:
    """Take the exclusive lock of an open file at once; it goes with the process.

    By flock, or by a POSIX record lock on a file system that knows no flock.

    Raises:
      BlockingIOError: another process holds it.
      OSError: the file system knows neither.
    """
    import fcntl  # here, so that records can be read where it does not exist

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_FLOCK:
            raise
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except PermissionError as held:  # EACCES and EAGAIN mean the same here
            raise BlockingIOError(*held.args) from None


def sync(descriptor: int) -> None:
    """Return once the file's bytes are on the medium; macOS's fsync leaves them in its cache."""
    import fcntl

    full = getattr(fcntl, "F_FULLFSYNC", None)
    if full is not None:
        try:
            fcntl.fcntl(descriptor, full)
        except OSError:  # a network folder, which has only fsync
            os.fsync(descriptor)
        return
    os.fsync(descriptor)


def _peak_from_usage() -> int:
    """``ru_maxrss`` in bytes: macOS counts bytes, every other system kilobytes."""
    import resource

    found = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return found if sys.platform == "darwin" else 1024 * found


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _kilobytes(path: Path, name: str) -> int | None:
    """A field of a file of /proc, in bytes."""
    found = re.search(rf"^{name}:\s+(\d+) kB", _text(path), re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def _output(*command: str) -> str:
    """Output of a command; empty where it is missing or fails."""
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _cgroup_left() -> int | None:
    """Bytes that the control group leaves: its limit less what is used and cannot be reclaimed."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        stat = (CGROUP / "memory.stat").read_text()
    except (OSError, ValueError):
        return None
    cached = re.search(r"^inactive_file (\d+)$", stat, re.MULTILINE)
    return None if limit == "max" else int(limit) - used + (int(cached[1]) if cached else 0)
