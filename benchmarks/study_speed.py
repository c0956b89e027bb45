"""The quickstart study by this engine and by what one would otherwise do, in one run.

    python -m benchmarks.study_speed [--trials N] [--batch-sizes B ...] [--repeats R]

(a) this engine: a whole study, plan, compilation and records included;
(b) one process, a Python loop over a jitted step with traced hyperparameters;
(c) one process per trial (a script started once a trial), one real one per batch size, times N;
(d) one trial by a hand-written jitted loop against one trial by the engine, both compiled.

Equal nets, trials, steps and evaluations. No compiled program is kept between the runs. A row
per batch size and a total go to benchmarks/results/study_speed.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax

from benchmarks.baselines import LoopBaseline, quickstart_baseline
from benchmarks.machine import alternated, seconds, write_results
from experiments.runner.study import run_study
from experiments.search.samplers.halton import point
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import resolve
from experiments.spec.trial import Trial, evaluation_steps
from experiments.studies import quickstart
from experiments.training.feed import ResidentData
from experiments.training.population import Population
from experiments.training.program import Program
from workloads.datasets import load

STUDY = dataclasses.replace(quickstart.STUDY, seeds=(0,), sampler="halton", stop="never", trials=24)
"""Quickstart as one quasi-random search to full length: every side trains the same trials."""


def trials_of(study: ResolvedStudy, batch_size: int) -> list[Trial]:
    """The first N trials, the ones the engine starts."""
    points = [point(0, index, study.space) for index in range(study.trials)]
    return [study.trial(batch_size, 0, index, unit, "") for index, unit in enumerate(points)]


def engine(study: ResolvedStudy, execution: str = "auto") -> float:
    """(a): seconds of the whole study in an empty folder, nothing compiled before."""
    jax.clear_caches()
    with tempfile.TemporaryDirectory() as folder:
        return seconds(lambda: run_study(study, Path(folder) / "study", execution=execution))


def python_loops(study: ResolvedStudy, batch_size: int) -> float:
    """(b): all trials of a batch size, one after the other, nothing compiled before."""
    jax.clear_caches()
    quickstart_baseline.cache_clear()
    baseline = quickstart_baseline()

    def all_trials() -> None:
        for trial in trials_of(study, batch_size):
            baseline.python_loop(**_task(study, trial))

    return seconds(all_trials)


def _task(study: ResolvedStudy, trial: Trial) -> dict[str, Any]:
    names = ("learning_rate", "momentum")
    return {
        "seed": trial.index,
        "hyperparameters": {name: trial.hyperparameters[name] for name in names},
        "batch_size": trial.batch_size,
        "grid": evaluation_steps(trial.train_steps, study.evaluation_spacing),
    }


def one_process(study: ResolvedStudy, batch_size: int) -> float:
    """(c): one real trial in a fresh process."""
    task = json.dumps(_task(study, trials_of(study, batch_size)[0]))
    command = [sys.executable, "-m", "benchmarks.baselines", task]
    return seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def one_trial(
    study: ResolvedStudy, program: Program, baseline: LoopBaseline, batch_size: int, repeats: int
) -> dict[str, float]:
    """(d): seconds of one trial, compiled before, by the engine and by hand, in turn."""
    trial = next(
        t for t in trials_of(study, batch_size) if t.hyperparameters["learning_rate"] < 0.1
    )

    def by_engine() -> None:
        pending = [trial]
        population = Population(program, batch_size)
        population.run(lambda: pending.pop() if pending else None, lambda result: None)

    def by_hand() -> None:
        baseline.jitted_loop(**_task(study, trial))

    by_engine(), by_hand()
    return alternated({"engine": by_engine, "by_hand": by_hand}, repeats)


def measure(study: ResolvedStudy, repeats: int) -> dict[str, Any]:
    """All rows and the total."""
    total_engine = engine(study)
    print(f"engine, whole study: {total_engine:.1f} s", flush=True)
    data = ResidentData.put(load(study.workload.dataset).splits, study.train_evaluation_examples)
    rows = []
    for batch_size in study.batch_sizes:
        row: dict[str, Any] = {
            "batch_size": batch_size,
            "train_steps": study.length(batch_size),
            "trials": study.trials,
        }
        alone = dataclasses.replace(study, batch_sizes=(batch_size,))
        row["engine_seconds"] = engine(alone, "scan")
        row["python_loop_seconds"] = python_loops(study, batch_size)
        row["process_per_trial_seconds"] = one_process(study, batch_size) * study.trials
        program = Program(study.config("off"), data, study.divergence_factor)
        single = one_trial(study, program, quickstart_baseline(), batch_size, repeats)
        row["one_trial_engine_seconds"] = single["engine"]
        row["one_trial_by_hand_seconds"] = single["by_hand"]
        row["b_over_a"] = row["python_loop_seconds"] / row["engine_seconds"]
        row["c_over_a"] = row["process_per_trial_seconds"] / row["engine_seconds"]
        row["a_over_d"] = single["engine"] / single["by_hand"]
        rows.append(row)
        print(
            f"B = {batch_size:5d}: b/a {row['b_over_a']:5.2f}  c/a {row['c_over_a']:6.2f}  "
            f"one trial a/d {row['a_over_d']:.2f}",
            flush=True,
        )
    loops = sum(row["python_loop_seconds"] for row in rows)
    processes = sum(row["process_per_trial_seconds"] for row in rows)
    total = {
        "engine_seconds": total_engine,
        "python_loop_seconds": loops,
        "process_per_trial_seconds": processes,
        "b_over_a": loops / total_engine,
        "c_over_a": processes / total_engine,
    }
    return {"study": study.describe(), "rows": rows, "total": total}


def overhead(study: ResolvedStudy, repeats: int) -> dict[str, Any]:
    """(d) alone, a row per batch size."""
    data = ResidentData.put(load(study.workload.dataset).splits, study.train_evaluation_examples)
    program = Program(study.config("off"), data, study.divergence_factor)
    rows = []
    for batch_size in study.batch_sizes:
        single = one_trial(study, program, quickstart_baseline(), batch_size, repeats)
        ratio = single["engine"] / single["by_hand"]
        rows.append({"batch_size": batch_size, **single, "a_over_d": ratio})
        print(f"B = {batch_size:5d}: one trial a/d {ratio:.2f}", flush=True)
    return {"repeats": repeats, "rows": rows}


def main() -> None:
    """Parse, measure, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=STUDY.trials)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=STUDY.batch_sizes)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--name", default="study_speed", help="of the JSON in benchmarks/results")
    parser.add_argument("--one-trial", action="store_true", help="(d) alone")
    options = parser.parse_args()
    jax.config.update("jax_enable_compilation_cache", False)  # nothing is kept between runs
    study = resolve(
        dataclasses.replace(STUDY, trials=options.trials, batch_sizes=tuple(options.batch_sizes))
    )
    if options.one_trial:
        results = overhead(study, options.repeats)
        print(f"written: {write_results(options.name, results)}")
        return
    results = measure(study, options.repeats)
    total = results["total"]
    print(f"total: b/a {total['b_over_a']:.2f}  c/a {total['c_over_a']:.2f}")
    print(f"written: {write_results(options.name, results)}")


if __name__ == "__main__":
    main()
