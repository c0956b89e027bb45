"""Files that survive kill -9 and a full disk: whole or absent, one writer at a time."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from experiments.records.schema import LOCK_FILE
from experiments.runtime import platform

TEMPORARY_SUFFIX = ".tmp"
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""The errors of a disk, or of a user's share of it, that is full."""
_RESUMES = "the same command run again resumes and repeats no recorded trial"


class RecordError(Exception):
    """A record that cannot be written, read or continued; the message is one clear line."""


class DiskError(RecordError):
    """A disk that is full or fails while a record or a report is written."""


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turns the system's errors on writing below ``folder`` into one line of ours."""
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        if error.errno in FULL:
            message = f"the folder {folder} is full ({reason}): free some space; {_RESUMES}"
        elif error.errno == errno.EIO:
            message = f"the disk under {folder} fails ({reason}): once it is repaired, {_RESUMES}"
        else:
            message = f"the folder {folder} cannot be written ({reason})"
        raise DiskError(message) from error


def write_whole(path: Path, data: bytes | bytearray, sync: bool = True) -> None:
    """Replaces ``path`` by ``data`` so that every reader, after any crash, sees old or new.

    Written under a temporary name, fsynced, renamed; then, with ``sync``, the folder is fsynced, so
    that files become durable in the order they were written. Raises OSError and leaves no
    temporary file.
    """
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            platform.sync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if sync:
        sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes renames and removals in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_writable(folder: Path) -> None:
    """Refuse a folder in which nothing can be written, or which cannot be made.

    It is tried, in the folder or in the nearest one above that exists: root may write where the
    permissions say otherwise, and nobody may in /proc. Nothing is left behind.
    """
    there = folder.absolute()
    while not os.path.lexists(there):
        there = there.parent
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".writable-", dir=there))
    except NotADirectoryError:
        what = "it is a file" if there == folder.absolute() else f"{there} is a file"
        raise RecordError(f"the folder {folder} cannot be written ({what})") from None
    except OSError as error:
        if error.errno in FULL:
            with disk_errors(folder):
                raise
        reason = os.strerror(error.errno or 0)
        raise RecordError(f"the folder {folder} cannot be written ({reason})") from error


class Lock:
    """The right to write in a folder: flock on its lock file, released by any death.

    The file names the holder's process and host, and stays: to remove it would let two
    processes hold locks on two files of one name.
    """

    def __init__(self, folder: Path) -> None:
        """Takes the lock at once or raises RecordError naming the folder and the holder."""
        descriptor = os.open(folder / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            platform.lock(descriptor)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode())
        except BlockingIOError:
            holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise RecordError(
                f"the folder {folder} is being written by process {holder}: "
                "wait until it ends, or stop it"
            ) from None
        except OSError:
            os.close(descriptor)
            raise
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Gives the lock back; harmless when repeated."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
