"""What it saves to dispatch a chunk before the results of the one before are fetched.

    python -m benchmarks.double_buffering [--quick] [--repeats N]

One trial is trained with and without looking ahead, in turn, in chunks of a stated length: the
shorter the chunk, the larger the part of the time in which, without, the device waits for the host.
Rows with ``streamed`` read their examples while training (from memory, so that no disk is
measured): their windows are filled and copied by the host. ``input_share`` is the host's
preparation over the time without looking ahead, ``with_over_without`` the ratio of the medians.
Written to benchmarks/results/double_buffering.json.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

import workloads
from benchmarks.machine import alternated, write_results
from experiments.spec.study import Study
from experiments.spec.trial import Trial
from experiments.training import pace
from experiments.training.feed import ResidentData
from experiments.training.population import Population
from experiments.training.program import Program
from experiments.training.slots import Chunk
from workloads.datasets import load
from workloads.datasets.base import Stored

RATE = 1e-6  # nothing diverges
CASES = [
    # workload, batch size, streamed, seconds of a chunk
    ("digits_fc", 64, False, 0.05),
    ("digits_fc", 64, False, 0.005),
    ("digits_fc", 64, False, 0.001),
    ("digits_fc", 1024, False, 0.005),
    ("fashion_mnist_fc", 64, False, 0.005),
    ("fashion_mnist_fc", 64, True, 0.05),
]


def program(name: str, streamed: bool) -> tuple[Program, dict[str, float]]:
    """The engine's programs of a workload, and hyperparameters."""
    workload = workloads.get(name)
    splits = dict(load(workload.dataset, **workload.dataset_options).splits)
    if streamed:
        arrays = {role: np.asarray(x) for role, x in splits["train"].items()}
        size = len(arrays["inputs"])
        splits["train"] = Stored(size, lambda rows: {k: x[rows] for k, x in arrays.items()}, name)
    study = Study(
        name, "What does looking ahead save?", workload, (1,), 1, 1, optimizer="momentum"
    ).resolved
    values = {key: float(value or RATE) for key, value in study.hyperparameters.items()}
    values |= {"learning_rate": RATE, "momentum": 0.9}
    data = ResidentData.put(splits, 256, stream=streamed)
    return Program(study.config("off"), data, 1e4), values


class Timed(Population):
    """A population that measures what the host takes to prepare its chunks."""

    chunks, input_seconds = 0, 0.0

    def _inputs(self, count: int) -> Chunk:
        began = time.perf_counter()
        chunk = super()._inputs(count)
        self.input_seconds += time.perf_counter() - began
        self.chunks += 1
        return chunk


def trained(made: Program, trial: Trial, lookahead: bool) -> Timed:
    """A population that has trained this one."""
    pending = [trial]
    population = Timed(made, trial.batch_size, grid=lambda steps: [steps], lookahead=lookahead)
    population.run(lambda: pending.pop() if pending else None, lambda result: None)
    return population


def row(case: tuple[str, int, bool, float], wanted: float, repeats: int) -> dict[str, Any]:
    """Seconds of a step with and without looking ahead."""
    name, size, streamed, chunk = case
    made, values = program(name, streamed)
    with mock.patch.object(pace, "TARGET_CHUNK_SECONDS", chunk):

        def runs(steps: int) -> dict[str, Callable[[], Any]]:
            trial = Trial(size, 0, 0, steps, values, "benchmark")
            return {
                "without": lambda: trained(made, trial, False),
                "with": lambda: trained(made, trial, True),
            }

        alternated(runs(20), 1)  # compiles
        steps = max(40, round(wanted / (alternated(runs(200), 1)["without"] / 200)))
        times = alternated(runs(steps), repeats)
        host = trained(made, Trial(size, 0, 0, steps, values, "benchmark"), False)
    return {
        "workload": name,
        "batch_size": size,
        "streamed": streamed,
        "chunk_seconds": chunk,
        "steps_per_chunk": steps / host.chunks,
        "steps": steps,
        "seconds_per_step": {way: seconds / steps for way, seconds in times.items()},
        "input_share": host.input_seconds / times["without"],
        "with_over_without": times["with"] / times["without"],
    }


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="to see that it runs, not how fast")
    options = parser.parse_args()
    wanted, repeats = (0.1, 1) if options.quick else (2.0, options.repeats)
    rows = []
    for case in CASES[1:2] if options.quick else CASES:
        found = row(case, wanted, repeats)
        rows.append(found)
        print(
            f"{case[0]} B = {case[1]}{' streamed' if case[2] else ''}, "
            f"chunks of {1e3 * case[3]:g} ms: "
            f"{1e6 * found['seconds_per_step']['without']:.1f} us a step without, "
            f"{found['with_over_without']:.3f} of it with; host {found['input_share']:.2f}",
            flush=True,
        )
    file = "double_buffering_quick" if options.quick else "double_buffering"
    print(f"written: {write_results(file, {'rows': rows})}")


if __name__ == "__main__":
    main()
