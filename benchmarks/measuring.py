"""What measuring norms costs, and a checkpoint.

    python -m benchmarks.measuring [--quick] [--repeats R]

Per workload and batch size: seconds of a step as a study makes it (evaluations included, on the
usual grid) with no norms, and the ratios to it of runs that record norms at every step ("every"),
at evaluations, and at evaluations for every layer too; seconds to save the trial by Orbax and to
load it, and the bytes. The ways are run in turn in one process, medians; what counts are the
ratios. Inputs are random, of the workload's shape. Results go to
benchmarks/results/measuring.json (with --quick: measuring_quick.json).
"""

from __future__ import annotations

import argparse
import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import workloads
from benchmarks.machine import alternated, seconds, write_results
from benchmarks.workloads import CASES, RATE, random_data
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import Study
from experiments.spec.trial import RecordNorms, Trial
from experiments.training import checkpoint
from experiments.training.feed import ResidentData
from experiments.training.population import Population
from experiments.training.program import Program
from experiments.training.resume import Checkpoints

WAYS: dict[str, tuple[RecordNorms, bool]] = {
    "off": ("off", False),
    "every": ("every", False),
    "evaluations": ("evaluations", False),
    "layers": ("evaluations", True),
}
SIZES = {
    "digits_fc": (1, 64, 1024),
    "fashion_mnist_fc": (64,),
    "fashion_mnist_cnn": (64,),
    "text_transformer": (32,),
}


def trained(program: Program, trial: Trial, checkpoints: Checkpoints | None = None) -> Population:
    """A population that has trained this one."""
    pending = [trial]
    population = Population(program, trial.batch_size, checkpoints=checkpoints)
    population.run(lambda: pending.pop() if pending else None, lambda result: None)
    return population


def measure(name: str, batch_size: int, wanted: float, repeats: int) -> dict[str, Any]:
    """A row; runs take about ``wanted`` seconds."""
    shape, kind, target, _ = CASES[name]
    arrays = {role: np.asarray(x) for role, x in random_data(shape, kind, target).items()}
    data = ResidentData.put({"train": arrays, "validation": arrays}, 256)
    programs = {}
    for way, (norms, layers) in WAYS.items():
        study = Study(
            name, "What does it cost?", workloads.get(name), (1,), 1, 1, optimizer="momentum",
            norms_per_layer=layers,
        ).resolved  # fmt: skip
        programs[way] = Program(study.config(norms), data, 1e9)
    values = {k: float(v) for k, v in {**study.hyperparameters, **RATE}.items()}  # type: ignore[arg-type]

    def runs(steps: int) -> dict[str, Any]:
        trial = Trial(batch_size, 0, 0, steps, values, "benchmark")
        return {way: functools.partial(trained, p, trial) for way, p in programs.items()}

    alternated(runs(9), 1)  # compiles
    probe = alternated(runs(200), 1)["off"] / 200
    steps = max(200, round(wanted / probe))
    times = alternated(runs(steps), repeats)
    row: dict[str, Any] = {"workload": name, "batch_size": batch_size, "steps": steps}
    row["seconds_per_step"] = times["off"] / steps
    row |= {f"{way}_over_off": times[way] / times["off"] for way in WAYS if way != "off"}
    return row | saving(programs["off"], study, Trial(batch_size, 0, 0, 10**6, values, "b"))


def saving(program: Program, study: ResolvedStudy, trial: Trial) -> dict[str, float]:
    """Seconds to save a trial that has trained a little, and to load it."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(Path(folder), study.goal, float("inf"), print)
        population = Population(program, trial.batch_size, checkpoints=checkpoints, lookahead=False)
        pending, chunks = [trial], iter(range(100))
        saves = []

        def advanced(steps: int) -> bool:
            del steps
            saves.append(seconds(population.save))
            return next(chunks) < 5

        population.run(lambda: pending.pop() if pending else None, lambda result: None, advanced)
        where = checkpoints.of(trial)
        loads = [seconds(lambda: checkpoint.newest(where, print)) for _ in range(5)]
        size = sum(p.stat().st_size for p in where.rglob("*") if p.is_file()) / 2
    return {
        "save_seconds": float(np.median(saves)),
        "load_seconds": float(np.median(loads)),
        "checkpoint_bytes": size,
    }


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--quick", action="store_true", help="to see that it runs, not how fast")
    options = parser.parse_args()
    rows = []
    for name, sizes in SIZES.items():
        for batch_size in sizes[:1] if options.quick else sizes:
            wanted, repeats = (0.02, 1) if options.quick else (1.0, options.repeats)
            row = measure(name, batch_size, wanted, repeats)
            rows.append(row)
            ratios = "  ".join(f"{k} {v:.3f}" for k, v in row.items() if "_over_" in k)
            print(
                f"{name} B = {batch_size}: {1e3 * row['seconds_per_step']:.3f} ms  {ratios}  "
                f"save {row['save_seconds']:.3f} s, load {row['load_seconds']:.3f} s, "
                f"{row['checkpoint_bytes'] / 2**20:.1f} MiB",
                flush=True,
            )
    file = "measuring_quick" if options.quick else "measuring"
    print(f"written: {write_results(file, {'rows': rows})}")


if __name__ == "__main__":
    main()
