"""The user's cache of decoded datasets: written atomically, verified whenever it is read."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np

Arrays = Mapping[str, np.ndarray]
SIDECAR = "checksums.json"


def cache_folder() -> Path:
    """``batchscale/datasets`` under XDG_CACHE_HOME, or under ~/.cache where it is not set."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "batchscale" / "datasets"


def write_atomically(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """``path`` appears whole or not at all: temporary name, fsync, rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _save(array: np.ndarray, file: BinaryIO) -> None:
    np.save(file, array)


def store(folder: Path, arrays: Arrays) -> None:
    """One .npy per array, then the sidecar with their checksums, which commits them."""
    (folder / SIDECAR).unlink(missing_ok=True)
    for name, array in arrays.items():
        write_atomically(folder / f"{name}.npy", functools.partial(_save, array))
    checksums = {name: _sha256(folder / f"{name}.npy") for name in arrays}
    write_atomically(
        folder / SIDECAR, lambda file: file.write(json.dumps(checksums, indent=1).encode())
    )


def retrieve(folder: Path, mapped: bool = False) -> dict[str, np.ndarray] | None:
    """The arrays stored in ``folder``, or None where they are absent, unfinished or damaged.

    ``mapped`` leaves them on disk (np.memmap); they are verified all the same.
    """
    try:
        checksums = json.loads((folder / SIDECAR).read_bytes())
        if any(_sha256(folder / f"{name}.npy") != sum_ for name, sum_ in checksums.items()):
            return None
        mode: Literal["r"] | None = "r" if mapped else None
        return {
            name: np.load(folder / f"{name}.npy", mmap_mode=mode, allow_pickle=False)
            for name in checksums
        }
    except (OSError, ValueError, AttributeError):
        return None


def cached(name: str, build: Callable[[], Arrays], mapped: bool = False) -> Arrays:
    """The arrays called ``name`` from the cache; built, and stored for next time, otherwise.

    A damaged or half-written entry is built anew. A cache that cannot be written (read-only
    home, full disk) costs only the time to decode again, so it is no error. ``mapped``
    as in `retrieve`.
    """
    folder = cache_folder() / name
    stored = retrieve(folder, mapped)
    if stored is not None:
        return stored
    arrays = build()
    with contextlib.suppress(OSError):
        store(folder, arrays)
    return arrays
