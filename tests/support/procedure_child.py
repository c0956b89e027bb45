"""A diagnosis in a process of its own that ends by kill -9 in the middle of its sweep."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from experiments.procedures.diagnose import diagnose
from experiments.procedures.procedure import Running
from experiments.procedures.sweep_options import SweepOptions
from experiments.runner import coordinator
from experiments.spec.study import Study
from workloads.noisy_quadratic import WORKLOAD

TRAIN = {"execution": "scan", "workers": 1}
RATES, FACTOR = (0.1, 3.5), 1.5


def quadratic(optimizer="sgd", batch_size=1, **fields):
    """A hundred steps on the noisy quadratic model."""
    return Study(
        name="quadratic", question="Is it stable?", workload=WORKLOAD, optimizer=optimizer,
        batch_sizes=(batch_size,), step_budget=100, example_budget=1,
        train_evaluation_examples=1, **fields,
    )  # fmt: skip


def killed_diagnosis(folder: Path) -> None:
    """Diagnose, and be killed once the first trials of the sweep are recorded."""
    coordinator.COMMIT_SECONDS = 0.0

    @contextlib.contextmanager
    def shown(study):
        def observe(progress):
            if study.name.endswith("sweep") and progress.complete:
                os.kill(os.getpid(), signal.SIGKILL)

        yield observe

    options = SweepOptions(rates=RATES, factor=FACTOR, running=Running(train=TRAIN, shown=shown))
    diagnose(quadratic(record_curvature=25), folder, options)
