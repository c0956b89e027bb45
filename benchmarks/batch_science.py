"""An archive of the size and shape of the published one: import, and steps to result.

    python -m benchmarks.batch_science                 # the full size: about 8 GB under --folder
    python -m benchmarks.batch_science --scale 0.01    # a quick check
    python -m benchmarks.batch_science --only cifar_10/resnet_8/nesterov_momentum   # one, full size
    python -m benchmarks.batch_science --keep          # leaves the archive, or takes one it left

Shallue et al. (2019) published 168,160 trials and 71,638,836 measurements of 35 workloads, as
335,000 small files. This writes as many (benchmarks/published_archive.py), then imports them and
asks for the steps to result of every workload, in processes of their own whose peak memory is the
system's count. Bars: import in 3 minutes and 6 GB, all steps to result in 20 s, a page in 5 s (six
workloads; SVG figures, as an archive has); on one workload at least 20 times faster than pandas
from the files, by the same definitions, in turn, imports left out on both sides, for the first
answer in a process and for later ones. pandas reads the trials that count, whole tables or the two
columns that are asked for; where it is not installed the csv module stands in.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.machine import write_results
from benchmarks.published_archive import SHAPE, Shape, generate
from experiments.analysis.steps_to_result import steps_to_result
from experiments.records.exchange.batch_science import ImportRequest, import_archive
from experiments.records.store import read
from experiments.report.write import write_report
from workloads.base import Goal

TURNS = 3
GOAL = Goal("classification_error", 0.15)
COLUMN = "val/classification_error"
SLICE = "cifar_10/resnet_8/nesterov_momentum"
PAGES = (
    SLICE,
    "common_crawl/transformer_base/nesterov_momentum",
    "imagenet/resnet_50/nesterov_momentum",
    "lm1b/transformer_shallow/sgd",
    "mnist/fc_1024/sgd",
    "mnist/simple_cnn_base/nesterov_momentum",
)
"""Workloads whose pages are timed: of few and many batch sizes."""


def imported(archive: Path, out: Path) -> dict[str, Any]:
    """Seconds and memory of the import."""
    began = time.perf_counter()
    records = import_archive(archive, out, ImportRequest({"": GOAL}, sampler="halton"))
    return _spent(began, {"records": len(records)})


def answered(*folders: Path) -> dict[str, Any]:
    """Seconds and memory of the steps to result of records."""
    began = time.perf_counter()
    answers = [steps_to_result(read(folder)) for folder in folders]
    return _spent(began, {"records": len(answers)})


def paged(folder: Path) -> dict[str, Any]:
    """Seconds and memory of a record's page, from the record on."""
    began = time.perf_counter()
    written = write_report(folder)
    return _spent(began, {"page_MB": round(written.stat().st_size / 1e6, 2)})


def plainly(workload: Path, trials: Path, columns: Path) -> dict[str, Any]:
    """The same answer from the files of a workload, N as ``trials`` says.

    ``columns``: "two", those that are asked for, or "all".
    """
    pandas = importlib.util.find_spec("pandas") is not None
    if pandas:
        import pandas as _  # noqa: F401 (not timed, as our imports are not)
    number, two = int(trials.name), columns.name == "two"

    def answer() -> list[tuple[int, int | None, int | None]]:
        found = []
        for size in sorted(int(each.name) for each in workload.iterdir()):
            tables = _first_complete(workload / str(size), number)
            best = _with_pandas(tables, two) if pandas else _with_csv(tables)
            found.append((size, *best))
        return found

    return _repeated(answer, {"with": "pandas" if pandas else "csv"})


def from_record(folder: Path) -> dict[str, Any]:
    """Seconds and memory of the steps to result of one record."""

    def answer() -> list[tuple[Any, ...]]:
        found = steps_to_result(read(folder))
        return found.select("batch_size", "steps_to_result", "trial").rows()

    return _repeated(answer, {})


def _repeated(answer: Callable[[], list[Any]], more: dict[str, Any]) -> dict[str, Any]:
    """Seconds of the first call in a process, and the median of those after it."""
    taken = []
    for _ in range(TURNS):
        began = time.perf_counter()
        found = answer()
        taken.append(time.perf_counter() - began)
    first, *others = taken
    again = round(statistics.median(others), 4)
    return {**_spent(began, {**more, "answer": found}), "seconds": round(first, 4), "again": again}


def _first_complete(study: Path, number: int) -> list[tuple[int, Path]]:
    """(id, table) of the first COMPLETE trials by id."""
    found: list[tuple[int, Path]] = []
    for trial in sorted(int(each.name) for each in study.iterdir() if each.is_dir()):
        about = json.loads((study / str(trial) / "metadata.json").read_text())
        if about["status"] == "COMPLETE":
            found.append((trial, study / str(trial) / "measurements.csv"))
        if len(found) == number:
            break
    return found


def _with_pandas(tables: list[tuple[int, Path]], two: bool) -> tuple[int | None, int | None]:
    """(steps, trial) of the first row past the goal, by step and trial."""
    import pandas as pd

    read = ["step", COLUMN] if two else None
    frames = [pd.read_csv(path, index_col="step", usecols=read) for _, path in tables]
    rows = pd.concat(frames, keys=[trial for trial, _ in tables], names=["trial_id"])
    rows = rows.sort_index(level=["step", "trial_id"])
    passed = rows[rows[COLUMN] < GOAL.value]
    if passed.empty:
        return None, None
    trial, step = passed.index[0]
    return int(step), int(trial)


def _with_csv(tables: list[tuple[int, Path]]) -> tuple[int | None, int | None]:
    """As `_with_pandas`, with the standard library."""
    rows = []
    for trial, path in tables:
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                rows.append((int(row["step"]), trial, float(row[COLUMN])))
    rows.sort()
    return next(((step, t) for step, t, value in rows if value < GOAL.value), (None, None))


def _spent(began: float, more: dict[str, Any]) -> dict[str, Any]:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return {
        **more,
        "seconds": round(time.perf_counter() - began, 3),
        "CPU_seconds_with_imports": round(used.ru_utime + used.ru_stime, 3),
        "peak_memory_MB": used.ru_maxrss // 1024,
    }


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "imported": imported,
    "answered": answered,
    "from_record": from_record,
    "paged": paged,
    "plainly": plainly,
}


def in_a_process(what: str, *paths: Path) -> dict[str, Any]:
    """What ``--measure what paths`` prints."""
    command = [sys.executable, "-m", "benchmarks.batch_science", "--measure", what]
    done = subprocess.run(
        [*command, *map(str, paths)], check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _timed_page(folder: Path) -> dict[str, Any]:
    """A page by a process of its own, the start of Python and the imports included."""
    began = time.perf_counter()
    found = in_a_process("paged", folder)
    return {**found, "seconds_with_start": round(time.perf_counter() - began, 3)}


def prepared(scale: float, folder: Path, shape: Shape) -> dict[str, Any]:
    """What the archive in ``folder`` is, made where it is not there."""
    wanted = {"scale": scale, "workloads": len(shape)}
    said = folder / "made.json"
    if said.exists():
        made: dict[str, Any] = json.loads(said.read_text())
        if wanted.items() <= made.items():
            shutil.rmtree(folder / "records", ignore_errors=True)
            return made
    shutil.rmtree(folder, ignore_errors=True)
    made = {**wanted, **generate(folder / "archive", scale, shape)}
    said.write_text(json.dumps(made))
    return made


def measured(made: dict[str, Any], folder: Path, shape: Shape) -> dict[str, Any]:
    """All results of the archive in ``folder``."""
    archive, out = folder / "archive", folder / "records"
    results: dict[str, Any] = {**made}
    results["import"] = in_a_process("imported", archive, out)
    results["GB_of_records"] = round(
        sum(path.stat().st_size for path in out.rglob("*.parquet")) / 1e9, 3
    )
    results["all_workloads"] = in_a_process("answered", *(out / path for path in shape))
    results["pages"] = {path: _timed_page(out / path) for path in PAGES if path in shape}
    one = SLICE if SLICE in shape else next(iter(shape))
    return {**results, "one_workload": compared(archive / one, out / one, one)}


def compared(archive: Path, record: Path, workload: str) -> dict[str, Any]:
    """One workload from its record and from its files, a process each, in turn."""
    trials = Path(str(read(record).study["study"]["trials"]))
    spent: dict[str, list[dict[str, Any]]] = {"record": [], "files": [], "files, two columns": []}
    for _ in range(TURNS):
        spent["record"].append(in_a_process("from_record", record))
        spent["files"].append(in_a_process("plainly", archive, trials, Path("all")))
        spent["files, two columns"].append(in_a_process("plainly", archive, trials, Path("two")))
    answers = [found.pop("answer") for each in spent.values() for found in each]
    assert all(answer == answers[0] for answer in answers), answers
    faster = {
        f"{what}, {name}": round(_middle(spent[what], call) / _middle(spent["record"], call), 1)
        for what in spent
        if what != "record"
        for name, call in (("first", "seconds"), ("later", "again"))
    }
    return {
        "workload": workload, "trials_counted": int(trials.name), **spent, "times_faster": faster,
    }  # fmt: skip


def _middle(spent: list[dict[str, Any]], call: str) -> float:
    return statistics.median(found[call] for found in spent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="of the archive")
    parser.add_argument("--only", choices=SHAPE, metavar="WORKLOAD", help="of the archive, alone")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/batchscale-exchange"))
    parser.add_argument("--keep", action="store_true", help="leave the archive in --folder")
    parser.add_argument("--write", action="store_true", help="keep the results of any scale")
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        what, *paths = options.measure
        print(json.dumps(MEASURES[what](*(Path(path) for path in paths))))
        return
    shape = {options.only: SHAPE[options.only]} if options.only else SHAPE
    try:
        made = prepared(options.scale, options.folder, shape)
        results = measured(made, options.folder, shape)
    finally:
        if not options.keep:
            shutil.rmtree(options.folder, ignore_errors=True)
    print(json.dumps(results, indent=2))
    if (options.scale == 1 and not options.only) or options.write:
        print(write_results("batch_science", results))


if __name__ == "__main__":
    main()
