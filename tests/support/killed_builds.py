"""Modules whose building is written down, by a process that can be told to kill itself at the next.

Where the environment's ``BUILDS`` names a folder, `build` adds a line to ``builds`` there; if the
folder holds a file ``kill``, it takes that away and its process ends by SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from workloads.models.dense import DenseNet


def build(hyperparameters):
    """A small dense net, whatever is searched."""
    del hyperparameters
    if "BUILDS" in os.environ:
        folder = Path(os.environ["BUILDS"])
        with open(folder / "builds", "a") as file:
            file.write(f"{os.getpid()}\n")
        with contextlib.suppress(FileNotFoundError):
            (folder / "kill").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    return DenseNet(units=8, dropout=0.2)
