"""Records of any size: steps to result of a large archive, commits into a large study.

    python -m benchmarks.records                  # the full size: about 3 GB under --folder
    python -m benchmarks.records --scale 0.01     # a quick check

The archive has the size of the one published with Shallue et al. 2019: 168,160 trials, 71.6
million evaluations, 35 workloads, here one study each; curves are random and of the right shape.
It is written by the record's own part writer, then analysed in processes of their own, whose peak
memory is the system's count. Goals: one workload in 5 s and 2 GB, all in 60 s and 6 GB. Then
100,000 trials are committed, 20 at a time, into one study: neither the time of a commit nor the
writer's memory may grow.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from benchmarks.machine import write_results
from experiments import studies
from experiments.analysis.steps_to_result import steps_to_result
from experiments.records.groups import RecordsFolder
from experiments.records.schema import COMMITTED_FILE, RECORDS_FOLDER
from experiments.records.store import Writer, read
from experiments.spec.trial import Status, Trial, TrialResult

TRIALS, EVALUATIONS, WORKLOADS = 168_160, 71_600_000, 35
BATCH_SIZES = tuple(2**k for k in range(11))
GROUP_TRIALS = 400  # of one part of about 170,000 rows, some 5 MB
COMMITTED, AT_A_TIME = 100_000, 20


def study_of(name: str, trials: int) -> dict[str, Any]:
    """The content of study.json of a study of ``trials`` trials a batch size."""
    study = dataclasses.replace(
        studies.get("quickstart"), name=name, batch_sizes=BATCH_SIZES, trials=trials
    )
    described = study.resolved.describe()
    hyperparameters = sorted(study.resolved.hyperparameters)
    return {"identity": name, "study": described, "hyperparameters": hyperparameters}


def write_study(folder: Path, trials: int, evaluations: int, seed: int) -> None:
    """A study of ``trials`` trials with ``evaluations`` rows each, vectorised."""
    per_size = -(-trials // len(BATCH_SIZES))
    header = study_of(folder.name, per_size)
    with Writer.open(folder, header):
        pass
    records = RecordsFolder(folder / RECORDS_FOLDER, header["identity"])
    keys = [(b, i) for b in BATCH_SIZES for i in range(per_size)][:trials]
    rng, numbers = np.random.default_rng(seed), []
    for number, first in enumerate(range(0, trials, GROUP_TRIALS), start=1):
        here = keys[first : first + GROUP_TRIALS]
        tables = group_tables(here, evaluations, header["hyperparameters"], rng)
        records.write_group(number, tables, numbers)
        numbers.append(number)


def group_tables(
    keys: list[tuple[int, int]], rows: int, hyperparameters: list[str], rng: np.random.Generator
) -> dict[str, pl.DataFrame]:
    """The evaluations and trials of ``keys``: curves that fall to a floor of their own."""
    n = len(keys)
    sizes, trials = (np.array(column, np.int64) for column in zip(*keys, strict=True))
    step = np.arange(1, rows + 1, dtype=np.int32)
    floor, rate = rng.uniform(0.01, 0.2, (n, 1)), rng.uniform(0.2, 0.8, (n, 1))
    error = floor + (0.9 - floor) * step**-rate + rng.normal(0, 0.004, (n, rows))
    measured = {
        f"{split}/{metric}": (scale * np.abs(error)).ravel() + rng.normal(0, 0.001, n * rows)
        for split in ("train", "validation")
        for metric, scale in (("classification_error", 1.0), ("cross_entropy", 2.3))
    }
    evaluations = pl.DataFrame(
        {
            "batch_size": np.repeat(sizes, rows),
            "seed": np.zeros(n * rows, np.int64),
            "trial": np.repeat(trials.astype(np.int32), rows),
            "step": np.tile(step, n),
            "examples": np.repeat(sizes, rows) * np.tile(step, n),
            **measured,
        }
    )
    table = pl.DataFrame(
        {
            "batch_size": sizes, "seed": np.zeros(n, np.int64), "trial": trials.astype(np.int32),
            "identity": [f"{b:032x}{i:032x}" for b, i in keys], "status": ["COMPLETE"] * n,
            "train_steps": np.full(n, rows, np.int32), "steps": np.full(n, rows, np.int32),
            "seconds": rng.random(n), "plan": np.zeros(n, np.int32), "message": [""] * n,
            **{name: rng.random(n) for name in hyperparameters},
        }
    )  # fmt: skip
    return {"evaluations": evaluations, "trials": table}


def measured_in_a_process(what: str, *folders: Path) -> dict[str, Any]:
    """The results that this file prints as ``--measure what folders``."""
    command = [sys.executable, "-m", "benchmarks.records", "--measure", what, *map(str, folders)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def analyse(folders: list[Path]) -> dict[str, Any]:
    """Seconds and peak memory of reading and analysing records, imports left out and shown."""
    imported = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, searches = time.perf_counter(), 0
    for folder in folders:
        searches += steps_to_result(read(folder)).height
    return {
        "studies": len(folders),
        "searches": searches,
        "seconds": round(time.perf_counter() - began, 2),
        "peak_memory_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "memory_after_imports_MB": imported // 1024,
    }


def verify(folders: list[Path]) -> dict[str, Any]:
    """The cost of verifying every checksum of records."""
    size = sum(p.stat().st_size for f in folders for p in (f / RECORDS_FOLDER).iterdir())
    records = [read(folder) for folder in folders]
    began = time.perf_counter()
    for record in records:
        record.verify()
    spent = time.perf_counter() - began
    return {"MB": round(size / 1e6, 1), "ms_per_MB": round(1e9 * spent / size, 2)}


def commit(folders: list[Path], trials: int) -> dict[str, Any]:
    """Commits of `AT_A_TIME` trials into one study: time and memory, a row a tenth."""
    rows, steps = [], np.arange(1, 41)
    with Writer.open(folders[0], study_of("commits", trials)) as writer:
        for tenth in range(10):
            times = []
            for first in range(tenth * trials // 10, (tenth + 1) * trials // 10, AT_A_TIME):
                results = [
                    TrialResult(
                        Trial(8, 0, index, 40, {"learning_rate": 0.1}, f"{index:064x}"),
                        Status.COMPLETE,
                        40,
                        {"step": steps, "validation/classification_error": 1 / (index + steps)},
                    )
                    for index in range(first, first + AT_A_TIME)
                ]
                began = time.perf_counter()
                writer.commit(results)
                times.append(time.perf_counter() - began)
            with open("/proc/self/statm") as file:
                resident = int(file.read().split()[1]) * resource.getpagesize()
            rows.append(
                {
                    "trials": (tenth + 1) * trials // 10,
                    "median_commit_ms": round(1e3 * statistics.median(times), 1),
                    "mean_commit_ms": round(1e3 * statistics.mean(times), 1),
                    "resident_MB": resident >> 20,
                    "parts": len(list((folders[0] / RECORDS_FOLDER).glob("*.parquet"))),
                }
            )
    return {"trials_a_commit": AT_A_TIME, "commits": trials // AT_A_TIME, "tenths": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the archive and the commits")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/batchscale-records"))
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, *folders = options.measure
        chosen = {"analyse": analyse, "verify": verify}[what]
        print(json.dumps(chosen([Path(folder) for folder in folders])))
        return
    shutil.rmtree(options.folder, ignore_errors=True)
    try:
        results = measured(options.scale, options.folder)
    finally:
        shutil.rmtree(options.folder, ignore_errors=True)
    print(json.dumps(results, indent=2))
    if options.scale == 1:
        print(write_results("records", results))


def measured(scale: float, folder: Path) -> dict[str, Any]:
    """All results at ``scale``."""
    trials = max(len(BATCH_SIZES), round(scale * TRIALS / WORKLOADS))
    folders = [folder / f"workload-{i:02d}" for i in range(WORKLOADS)]
    rows = -(-EVALUATIONS // TRIALS)
    began = time.perf_counter()
    for seed, study in enumerate(folders):
        write_study(study, trials, rows, seed)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.name != COMMITTED_FILE)
    results: dict[str, Any] = {
        "scale": scale,
        "trials": trials * WORKLOADS,
        "evaluations": trials * WORKLOADS * rows,
        "GB_on_disk": round(size / 1e9, 2),
        "seconds_to_generate": round(time.perf_counter() - began, 1),
        "one_workload": measured_in_a_process("analyse", folders[0]),
        "all_workloads": measured_in_a_process("analyse", *folders),
        "verification": measured_in_a_process("verify", *folders),
    }
    shutil.rmtree(folder)
    count = max(10 * AT_A_TIME, round(scale * COMMITTED) // (10 * AT_A_TIME) * 10 * AT_A_TIME)
    results["commits"] = commit([folder / "commits"], count)
    return results


if __name__ == "__main__":
    main()
