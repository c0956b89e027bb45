"""Memory: whether an error says that it is full, what a device has, what a process holds."""

from __future__ import annotations

import os
import re
from pathlib import Path

import jax

CGROUP = Path("/sys/fs/cgroup")


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that memory is full, on the device or on the host."""
    exhausted = isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)
    return exhausted or isinstance(error, MemoryError)


def device_bytes() -> tuple[int, str]:
    """(bytes that arrays and programs may take from now on, what says so).

    An accelerator's allocator knows its limit. On a CPU it is what the system calls available,
    or what the control group leaves where that is less.
    """
    stats = jax.local_devices()[0].memory_stats()
    if stats and "bytes_limit" in stats:
        return int(stats["bytes_limit"]) - int(stats.get("bytes_in_use", 0)), "the device"
    available = _field(Path("/proc/meminfo"), "MemAvailable")
    if available is None:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    left = _cgroup_left()
    if left is not None and left < available:
        return left, "the control group"
    return available, "the system's available memory"


def process_bytes(what: str) -> int:
    """A field of /proc/self/status in bytes: ``VmRSS``, ``VmHWM`` (peak) or ``VmData``; else 0."""
    return _field(Path("/proc/self/status"), what) or 0


def _field(path: Path, name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", path.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


def _cgroup_left() -> int | None:
    """What the control group leaves: its limit less what is used and cannot be reclaimed."""
    try:
        limit = (CGROUP / "memory.max").read_text().strip()
        used = int((CGROUP / "memory.current").read_text())
        stat = (CGROUP / "memory.stat").read_text()
        cached = re.search(r"^inactive_file (\d+)$", stat, re.MULTILINE)
    except (OSError, ValueError):
        return None
    return None if limit == "max" else int(limit) - used + (int(cached[1]) if cached else 0)
