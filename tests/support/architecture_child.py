"""A search for an architecture, in a process of its own that kills itself after so many trials."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from experiments.runner import search_driver
from experiments.runner.search import run_search
from experiments.runner.search_models import ModelTrainer
from experiments.search.architecture.cells import every_edge
from experiments.search.architecture.inheritance import Inheritance
from experiments.search.architecture.question import architecture_search
from experiments.search.architecture.stacks import stacks
from workloads.architectures import Skeleton

SPACE = every_edge(3, ("none", "skip", "dense", "relu"), shape=(4,))
SKELETON = Skeleton((64,), 10, 4, stem="dense")


def asked(**fields):
    """Eight architectures of two features' width, two at a time."""
    given = {
        "strategy": "evolution", "settings": {"population": 4}, "at_once": 2, "trials": 8,
        "budget": 2, "workload": "digits_fc", "batch_size": 256, "seed": 3,
        "fixed": {"learning_rate": 1e-2}, **fields,
    }  # fmt: skip
    return architecture_search(SPACE, SKELETON, **given)


LAYERS = stacks((64,), 10, (1, 2), ("dense",), (4, 8))
"""Six networks."""


def inheriting(**fields):
    """Two networks that begin anew, and two that begin with the weights of earlier ones."""
    given = {
        "strategy": "random", "trials": 4, "budget": 2, "workload": "digits_fc", "batch_size": 256,
        "seed": 4, "fixed": {"learning_rate": 1e-2}, "inherit": Inheritance(1), **fields,
    }  # fmt: skip
    return architecture_search(LAYERS, (64,), **given)


def inheriting_cells(**fields):
    """Cells of one program, some of which begin with the weights of earlier ones."""
    given = {
        "strategy": "random", "settings": {}, "at_once": 1, "trials": 4, "seed": 57,
        "inherit": Inheritance(1), **fields,
    }  # fmt: skip
    return asked(**given)


def run(folder: Path, make=asked, **fields):
    """Search; with KILL in the environment, end by SIGKILL once so many trials have ended."""
    search_driver.COMMIT_SECONDS = 0.0
    ended = ModelTrainer.ended
    count = []

    def counted(self, result):
        ended(self, result)
        count.append(result)
        if len(count) == int(os.environ.get("KILL", "0")):
            os.kill(os.getpid(), signal.SIGKILL)

    ModelTrainer.ended = counted
    try:
        return run_search(make(**fields), folder / "record", show=False)
    finally:
        ModelTrainer.ended = ended


if __name__ == "__main__":
    run(Path(sys.argv[1]), {"asked": asked, "inheriting": inheriting}[sys.argv[2]])
