"""Compiled programs are kept in the user's cache folder, and a killed process leaves none torn."""

from __future__ import annotations

import atexit
import os
from pathlib import Path

import jax

_MARKER = "running-"
_ENTRY = "*-cache"  # jax's own suffix


def enable_compilation_cache() -> Path | None:
    """Keep compiled programs in the user's cache folder, unless jax has one configured.

    Returns the folder, or None where it cannot be made (everything works, only slower). A cache
    is trusted code: it belongs to the user alone.
    """
    configured = getattr(jax.config, "jax_compilation_cache_dir", None)
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
    jax.config.update("jax_compilation_cache_dir", str(folder))
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
        if pid.isdigit() and _alive(int(pid)):
            continue
        began = marker.stat().st_mtime
        for entry in folder.glob(_ENTRY):
            if entry.stat().st_mtime >= began:
                entry.unlink(missing_ok=True)
        marker.unlink(missing_ok=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def prepare_jax(float64: bool) -> None:
    """The switches of the whole of jax that a study needs; ``float64``: it computes in 64 bits."""
    enable_compilation_cache()
    if float64:
        jax.config.update("jax_enable_x64", True)
