"""Compiled programs are kept in the user's cache folder, and a killed process leaves none torn."""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from experiments.runtime.platform import process_exists

_MARKER = "running-"
_ENTRY = "*-cache"  # jax's own suffix
_FOLDER = "jax_compilation_cache_dir"
_SWITCHES = (
    "jax_enable_x64",
    _FOLDER,
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)
"""What `switched` may change, and puts back."""


def enable_compilation_cache() -> Path | None:
    """Keep compiled programs in the user's cache folder, unless jax has one configured.

    Returns the folder, or None where it cannot be made (everything works, only slower). A cache
    is trusted code: it belongs to the user alone.
    """
    configured = getattr(jax.config, _FOLDER)
    if configured:
        return Path(configured)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "batchscale" / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        discard_torn(folder)
        marker = folder / f"{_MARKER}{os.getpid()}"
        marker.touch()
    except OSError:
        return None
    atexit.register(marker.unlink, missing_ok=True)
    jax.config.update(_FOLDER, str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


def discard_torn(folder: Path) -> None:
    """Drop what a process that was killed may have left half-written.

    jax writes its entries in place and would warn of a torn one at every use, for ever. A process
    that ends well removes its marker; a marker without its process dates the entries to drop.
    """
    for marker in folder.glob(f"{_MARKER}*"):
        pid = marker.name.removeprefix(_MARKER)
        if pid.isdigit() and process_exists(int(pid)):
            continue
        began = marker.stat().st_mtime
        for entry in folder.glob(_ENTRY):
            if entry.stat().st_mtime >= began:
                entry.unlink(missing_ok=True)
        marker.unlink(missing_ok=True)


@contextlib.contextmanager
def switched(float64: bool = False) -> Iterator[None]:
    """Within, jax is set as a study needs it; then every switch is as it was found.

    Args:
      float64: whether the study computes in 64 bits.

    The switches are those of the whole process: two studies of different widths must not train
    in one process at a time.
    """
    before = {name: getattr(jax.config, name) for name in _SWITCHES}
    try:
        enable_compilation_cache()
        if float64:
            jax.config.update("jax_enable_x64", True)
        yield
    finally:
        for name, value in before.items():
            if getattr(jax.config, name) != value:
                jax.config.update(name, value)
        if not before[_FOLDER]:
            compilation_cache.reset_cache()  # else jax would go on writing into our folder
