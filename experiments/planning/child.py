"""One task of ``batchscale plan`` in a process of its own: the parent never touches the device.

    python -m experiments.planning.child < task

The task is a pickled `experiments.planning.study.PlanningTask`; every answer is a line of JSON on
standard output, so that what was found before a batch size ended the process is not lost.
"""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from experiments.planning import feasibility
from experiments.planning.execution import default_workers, device_name
from experiments.planning.probe import probe_trial
from experiments.planning.study import PlanningTask
from experiments.runtime.compilation import switched
from experiments.runtime.memory import device_bytes, out_of_memory
from experiments.runtime.platform import limit_data
from experiments.spec.errors import StudyError, in_one_line
from experiments.spec.loading import load_file
from experiments.spec.trial import Trial
from experiments.training.feed import ResidentData
from experiments.training.layout import ONE_DEVICE, chosen_layout
from experiments.training.program import Program
from workloads import datasets
from workloads.datasets.base import DataError
from workloads.registry import resolve

LONG_STEP_SECONDS = 2.0


class Child:
    """A study's program, and the tasks on it."""

    def __init__(self, task: PlanningTask):
        study = task.study
        self.task, self.study = task, study
        splits = datasets.load(
            study.workload.dataset, task.data_dir, **study.workload.dataset_options
        ).splits
        data = ResidentData.put(splits, study.train_evaluation_examples, task.stream)
        norms = "off" if study.record_norms == "auto" else study.record_norms
        try:
            asked = task.request
            layout = chosen_layout(asked.parallel, asked.mesh, asked.micro_batch) or ONE_DEVICE
            measured = resolve(task.measurements)(study, data) if task.measurements else ()
            self.program = Program(
                study.config(norms), data, study.divergence_factor, layout, measurements=measured
            )
        except (Exception, SystemExit) as error:
            raise StudyError(
                f"workload {study.workload.name} cannot be built: {in_one_line(error)}"
            ) from error
        self.workers = task.request.workers or default_workers()

    def trial(self, batch_size: int, index: int) -> Trial:
        """A calm one with no near end."""
        return probe_trial(self.study, batch_size, index)

    def predict(self) -> Iterator[dict[str, Any]]:
        """The device, then a row a batch size, up to the first that does not fit."""
        left, source = device_bytes()
        layout = self.program.layout
        shared = 1 if layout.how == "vmap" else layout.data  # devices that share a step
        yield {"device": device_name(), "workers": self.workers, "step_devices": shared}
        for batch_size in self.task.batch_sizes:
            found = feasibility.predict(self.program, self.trial(batch_size, 0))
            needed = found.resident_bytes + self.workers * found.program_bytes
            limit = self.task.memory or left + found.resident_bytes
            yield {
                "batch_size": batch_size,
                **dataclasses.asdict(found),
                "predicted_bytes": needed,
                "limit_bytes": limit,
                "limit_of": "--memory" if self.task.memory else source,
                "fits": needed <= limit,
            }
            if needed > limit:
                return

    def verify(self) -> Iterator[dict[str, Any]]:
        """The measured peak of every batch size."""
        for batch_size in self.task.batch_sizes:
            self._limit_memory(batch_size)
            peak = feasibility.peak_bytes(self.program, self.trial, batch_size, self.workers)
            yield {"batch_size": batch_size, "peak_bytes": peak}

    def _limit_memory(self, batch_size: int) -> None:
        """On a CPU: ask for more than there is and be refused, before the system kills somebody."""
        if jax.default_backend() != "cpu":
            return
        found = feasibility.predict(self.program, self.trial(batch_size, 0))  # compiles as well
        left = self.task.memory - found.resident_bytes if self.task.memory else device_bytes()[0]
        limit_data(left)

    def measure(self) -> Iterator[dict[str, Any]]:
        """The machine's rates, traffic of a step, an evaluation's time; then a row a batch size."""
        precision, sizes = self.study.precision, self.task.batch_sizes
        execution = feasibility.smallest(self.program.layout)
        yield {"rates": feasibility.rates(precision.compute, precision.matmul)}
        ends = sorted({sizes[0], sizes[-1]})
        traffic = {b: feasibility.step_traffic(self.program, self.trial(b, 0)) for b in ends}
        yield {"traffic_bytes": traffic}
        for batch_size in sizes:
            trials = [self.trial(batch_size, i) for i in range(execution.slots)]
            found, share = feasibility.step_seconds(self.program, trials, execution)
            row = {"batch_size": batch_size, "step_seconds": found, "input_share": share}
            if batch_size == sizes[0]:
                evaluated, _ = feasibility.step_seconds(self.program, trials, execution, every=1)
                row["evaluated_step_seconds"] = evaluated
            yield row
            if min(found) > LONG_STEP_SECONDS:
                return


def main() -> int:
    """Do what standard input asks for."""
    task: PlanningTask = pickle.load(sys.stdin.buffer)
    if task.study_file:
        load_file(Path(task.study_file))  # a model defined there is found by its module's name
    try:
        with switched(task.study.precision.float64):
            child = Child(task)
            run: Callable[[], Iterator[dict[str, Any]]] = getattr(child, task.what)
            for answer in run():
                print(json.dumps(answer), flush=True)
    except (StudyError, DataError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
    except Exception as error:  # noqa: BLE001 (a user's model may raise anything)
        kind = "out_of_memory" if out_of_memory(error) else "error"
        print(json.dumps({kind: in_one_line(error)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
