"""A small table with classes that can be told apart; an automl of it that kills itself."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np

from experiments.procedures.automl.asked import AutomlRequest
from experiments.procedures.automl.automl import automl
from experiments.procedures.budget import Budget
from experiments.runner import search_driver
from experiments.runner.search_models import ModelTrainer

CLASSES = ("ash", "birch", "oak")


def write_table(path: Path, examples: int = 90) -> Path:
    """Two numbers and a text column; the first number tells the classes apart."""
    chance = np.random.default_rng(5)
    lines = ["height,width,bark,tree"]
    for i in range(examples):
        kind = i % 3
        height, width = chance.normal([3.0 * kind, 10.0], [0.5, 2.0])
        bark = ("smooth", "rough")[int(kind == 2) if chance.random() < 0.9 else i % 2]
        lines.append(f"{height:.4f},{width:.4f},{bark},{CLASSES[kind]}")
    path.write_text("\n".join(lines) + "\n")
    return path


def run(folder: Path, budget: str = "5trials", **options):
    """An automl of `write_table`'s file in ``folder``."""
    asked = AutomlRequest(str(folder / "trees.csv"), Budget.parse(budget), "tree")
    return automl(asked, folder / "automl", workers=1, **options)


def ending(jobs, number):
    """`ModelTrainer.train` that sends its process a signal as so many jobs have begun."""
    begun, train = [], ModelTrainer.train

    def trained(self, job):
        begun.append(job)
        if len(begun) == jobs:
            os.kill(os.getpid(), number)
        return train(self, job)

    return trained


if __name__ == "__main__":
    search_driver.COMMIT_SECONDS = 0.0
    ModelTrainer.train = ending(int(os.environ["KILL"]), signal.SIGKILL)
    run(Path(sys.argv[1]))
