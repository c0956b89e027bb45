"""The machine and the code a record was made by: versions, device, processor, commit."""

from __future__ import annotations

import os
import platform as python_platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import jax

from experiments.runtime import platform

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "batchscale")


def environment() -> dict[str, Any]:
    """Versions, device, processor and commit, as JSON values."""
    device = jax.local_devices()[0]
    return {
        "python": python_platform.python_version(),
        "versions": {name: _version(name) for name in _PACKAGES},
        "platform": python_platform.platform(),
        "processor": platform.processor_name(),
        "cores": platform.cores(),
        "device": device.device_kind,
        "backend": device.platform,
        "devices": jax.local_device_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": _commit(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """The commit of the code that runs, "+" where files differ from it; None outside a clone.

    A repository that merely contains this code's folder, as where it is installed in an
    environment of the user's own project, is not a clone of it.
    """
    here = Path(__file__).resolve().parents[2]
    top = _git(here, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != here:
        return None
    return _git(here, "describe", "--always", "--abbrev=12", "--dirty=+")


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of git; None where it is missing, fails or prints nothing."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
