"""What a trial-step of the engine costs, as ratios within one run.

    python -m benchmarks.engine_scaling [--quick] [--parts PART ...]

by_hand     the engine's step beside a plain Flax and Optax loop (benchmarks/workloads.py)
trials      1, 8 and 64 trials packed: seconds of a trial-step over those of one trial alone
parameters  nets of growing width: over the smallest
batch       growing batch sizes: over B = 1
norms       every step's norms recorded, or those at evaluations, over none; at most 1.05 is
            promised where a step takes 1 ms and more
devices     one trial over 2 and 4 simulated devices (pmap), over one; all with the threads that the
            simulation needs (NPROC=16), so that what is seen is the cost of cutting and summing

Times are taken in turn and their medians compared; a study's evaluations are left out. Results go
to benchmarks/results/engine_scaling.json (with --quick: engine_scaling_quick.json).
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

import jax

import workloads
from benchmarks.machine import write_results
from benchmarks.workloads import measure as measure_by_hand
from experiments.planning import feasibility
from experiments.spec.study import Study
from experiments.spec.trial import RecordNorms, Trial
from experiments.training.feed import ResidentData
from experiments.training.layout import ONE_DEVICE, Execution, Layout
from experiments.training.program import Program
from workloads.datasets import load

RATE = 1e-6  # nothing diverges
Row = dict[str, Any]


@functools.cache
def resident(name: str) -> ResidentData:
    """A workload's data on the device."""
    workload = workloads.get(name)
    return ResidentData.put(load(workload.dataset, **workload.dataset_options).splits, 256)


@functools.cache
def program(
    name: str,
    hidden: tuple[int, ...] = (),
    norms: RecordNorms = "off",
    layout: Layout = ONE_DEVICE,
) -> tuple[Program, Mapping[str, float]]:
    """The engine's programs of a workload, perhaps with other hidden sizes; hyperparameters."""
    workload = workloads.get(name)
    if hidden:
        options = {**workload.model_options, "hidden_sizes": list(hidden)}
        workload = dataclasses.replace(workload, model_options=options)
    study = Study(
        name, "What does a step cost?", workload, (1,), 1, 1, optimizer="momentum"
    ).resolved
    values = {key: value or RATE for key, value in study.hyperparameters.items()}
    values |= {"learning_rate": RATE, "momentum": 0.9}
    return Program(study.config(norms), resident(name), 1e4, layout), values


def seconds(
    made: tuple[Program, Mapping[str, float]], batch_size: int, slots: int = 1
) -> Callable[[], float]:
    """A function that measures a trial-step."""
    programs, values = made
    trials = [Trial(batch_size, 0, i, 100_000_000, values, "") for i in range(slots)]

    def measured() -> float:
        execution = Execution("packed" if slots > 1 else "scan", slots, programs.layout)
        return statistics.median(feasibility.step_seconds(programs, trials, execution)[0])

    return measured


def compared(
    part: str, variants: Mapping[str, Callable[[], float]], repeats: int, **facts: Any
) -> Row:
    """Medians of the variants, measured in turn, and their ratios to the first."""
    found: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(repeats):
        for name, measured in variants.items():
            found[name].append(measured())
    medians = {name: statistics.median(values) for name, values in found.items()}
    first = next(iter(medians.values()))
    ratios = {name: value / first for name, value in medians.items()}
    row = {"part": part, **facts, "seconds_per_step": medians, "over_first": ratios}
    shown = "  ".join(f"{k} {1e3 * medians[k]:.3g} ms ({ratios[k]:.2f})" for k in medians)
    print(f"{part} {' '.join(map(str, facts.values()))}: {shown}", flush=True)
    return row


def by_hand(quick: bool, repeats: int) -> list[Row]:
    """Rows of benchmarks/workloads.py."""
    cases = [("digits_fc", 64), ("fashion_mnist_fc", 64), ("text_transformer", 8)]
    rows = []
    for name, size in cases[:1] if quick else cases:
        row = measure_by_hand(name, size, 0.05 if quick else 0.5, repeats)
        rows.append({"part": "by_hand", **row})
        ratios = "  ".join(f"{k} {v:.2f}" for k, v in row.items() if "_over_" in k)
        print(f"by_hand {name} B = {size}: {ratios}", flush=True)
    return rows


def trials(quick: bool, repeats: int) -> list[Row]:
    """Packs of the digits net."""
    made, packs = program("digits_fc"), (1, 8) if quick else (1, 8, 64)
    return [
        compared(
            "trials",
            {str(slots): seconds(made, size, slots) for slots in packs},
            repeats,
            workload="digits_fc",
            batch_size=size,
        )
        for size in ((16,) if quick else (1, 16, 128))
    ]


def parameters(quick: bool, repeats: int) -> list[Row]:
    """Two hidden layers of a width."""
    widths = (16, 64) if quick else (16, 64, 256, 1024)
    variants = {str(w): seconds(program("digits_fc", (w, w)), 16) for w in widths}
    counts = {str(w): 64 * w + w * w + 10 * w + 2 * w + 10 for w in widths}
    return [compared("parameters", variants, repeats, batch_size=16, parameters=counts)]


def batch(quick: bool, repeats: int) -> list[Row]:
    """Batch sizes of the digits net."""
    made = program("digits_fc")
    sizes = (1, 64) if quick else (1, 4, 16, 64, 256, 1024)
    variants = {str(size): seconds(made, size) for size in sizes}
    return [compared("batch", variants, repeats, workload="digits_fc")]


def norms(quick: bool, repeats: int) -> list[Row]:
    """What recording norms costs a step."""
    cases = [
        ("digits_fc", 16),
        ("digits_fc", 1024),
        ("fashion_mnist_fc", 256),
        ("text_transformer", 8),
    ]
    kinds: tuple[RecordNorms, ...] = ("off", "evaluations", "every")
    return [
        compared(
            "norms",
            {kind: seconds(program(name, (), kind), size) for kind in kinds},
            repeats,
            workload=name,
            batch_size=size,
        )
        for name, size in (cases[:1] if quick else cases)
    ]


def devices(quick: bool, repeats: int) -> list[Row]:
    """One trial over simulated devices, each count in a process of its own."""

    def child(count: int, size: int) -> Callable[[], float]:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
        environment = {**os.environ, "NPROC": "16", "XLA_FLAGS": flags.strip()}
        task = json.dumps({"devices": count, "batch_size": size})
        command = [sys.executable, "-m", "benchmarks.engine_scaling", "--child", task]

        def measured() -> float:
            done = subprocess.run(
                command, check=True, capture_output=True, text=True, env=environment
            )
            return float(done.stdout)

        return measured

    return [
        compared(
            "devices",
            {str(count): child(count, size) for count in ((1, 2) if quick else (1, 2, 4))},
            1 if quick else min(repeats, 3),
            workload="fashion_mnist_fc",
            batch_size=size,
        )
        for size in ((64,) if quick else (64, 1024))
    ]


def child_main(task: str) -> None:
    """Seconds of a step over so many devices."""
    asked = json.loads(task)
    count = asked["devices"]
    layout = Layout("pmap", data=count) if count > 1 else ONE_DEVICE
    print(seconds(program("fashion_mnist_fc", (), "off", layout), asked["batch_size"])())


PARTS: dict[str, Callable[[bool, int], list[Row]]] = {
    "by_hand": by_hand,
    "trials": trials,
    "parameters": parameters,
    "batch": batch,
    "norms": norms,
    "devices": devices,
}


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="to see that it runs, not how fast")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)
    feasibility.MEASURED_SECONDS = 0.05 if options.quick else 0.3
    if options.child:
        child_main(options.child)
        return
    repeats = 1 if options.quick else options.repeats
    rows = [row for part in options.parts for row in PARTS[part](options.quick, repeats)]
    file = "engine_scaling_quick" if options.quick else "engine_scaling"
    print(f"written: {write_results(file, {'rows': rows})}")


if __name__ == "__main__":
    main()
