"""What a trial costs besides training: ten thousand tiny ones, and a coordinator that stays small.

    python -m benchmarks.many_trials [--trials 10000] [--optuna 500] [--tune 500] [--quick]
    python -m benchmarks.many_trials --before TREE [--trials 30000]

The objective is the loss of the noisy quadratic model in two dimensions after one step of SGD with
momentum: microseconds. Each way is a process of its own, one after the other, on all cores:

threads, ray      `run_study`: trials of the engine in threads, and in Ray tasks; a trial is
                  trained, evaluated twice and recorded
one a task        the same through Ray, with one trial a task
function          `search` over the same loss as a function of Python, one worker
optuna            Optuna's loop, random sampler, its RDB storage on sqlite, one worker
tune              Ray Tune's Tuner, random sampling, as many trials at a time as cores

The engine and Ray Tune are timed from their first trial on, which leaves out compilation, the plan
and Ray's start; all but Ray Tune until everything is recorded. ``per_trial_ms`` is wall-clock time
over trials; ``last_over_first`` compares the last fifth of the trials with the first; ``grown_mb``
is resident memory when the last trial ends less that after a fifth. Ray Tune needs ``ray[tune]``;
without it that row is missing and the file says so. Results go to
benchmarks/results/many_trials.json.

With ``--before``, another commit's working tree, only `search` over a function is run, by that
tree's code and by this one's: what it keeps of a trial, in benchmarks/results/search_memory.json.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import write_results

BARS_MS = {"threads": 5.0, "ray": 15.0}
RATE, MOMENTUM = (1e-5, 2.0), (0.5, 0.999)
FIFTHS = 5


class Marks:
    """Times and resident memory at the beginning and after each fifth of the trials.

    Args:
      trials: in all.
      compiles: begin with the first trial that has ended, not now.
    """

    def __init__(self, trials: int, *, compiles: bool = False):
        self.trials = trials
        self._at: list[tuple[int, float, float]] = []
        if not compiles:
            self._add(0)

    def __call__(self, ended: int) -> None:
        """Take note of how many trials have ended."""
        if ended > 0 and ended >= len(self._at) * self.trials / FIFTHS:
            self._add(ended)

    def over(self) -> None:
        """Take note of the end: all is recorded. Memory stays that of the last trial, before a
        result was read back.
        """
        _, _, memory = self._at.pop()
        self._at.append((self.trials, time.perf_counter(), memory))

    def _add(self, ended: int) -> None:
        self._at.append((ended, time.perf_counter(), _resident_mb()))

    def row(self) -> dict[str, Any]:
        """The numbers of the way."""
        (first, began, _), (last, ended, _) = self._at[0], self._at[-1]
        rates = [
            (b[1] - a[1]) / max(1, b[0] - a[0])
            for a, b in zip(self._at, self._at[1:], strict=False)
        ]
        return {
            "trials": last,
            "per_trial_ms": round(1e3 * (ended - began) / (last - first), 3),
            "last_over_first": round(rates[-1] / rates[0], 2),
            "resident_mb": round(self._at[-1][2], 1),
            "grown_mb": round(self._at[-1][2] - self._at[1][2], 1),
        }


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def loss(rate: float, momentum: float, seed: int) -> float:
    """The noisy quadratic model, h = (1, 1/2), one step at batch size 1 from two draws."""
    del momentum  # the first step has none
    generator = np.random.Generator(np.random.Philox(seed))
    curvature = np.array([1.0, 0.5])
    parameters, noise = generator.standard_normal((2, 2))
    parameters = parameters - rate * (curvature * parameters + np.sqrt(curvature) * noise)
    return float(0.5 * (curvature * parameters**2).sum())


def study_way(trials: int, *, ray: bool, one: bool = False) -> dict[str, Any]:
    """`run_study`, in threads or through Ray."""
    import workloads
    from experiments.runner.executors import ray as ray_tasks
    from experiments.runner.executors.cluster import Cluster
    from experiments.runner.study import run_study
    from experiments.spec.study import Study

    if one:
        ray_tasks.TASK_SECONDS = 0.0
    workload = dataclasses.replace(
        workloads.get("noisy_quadratic"), model_options={"dimensions": 2, "power": 0.0}
    )
    study = Study(
        "many_trials", "What does a trial cost?", workload, (1,), 1, 1,
        optimizer="momentum", trials=trials, sampler="halton", stop="never",
    )  # fmt: skip
    marks = Marks(trials, compiles=True)
    with tempfile.TemporaryDirectory() as folder:
        run_study(
            study,
            Path(folder) / "study",
            execution="scan",
            cluster=Cluster() if ray else None,
            observe=lambda progress: marks(progress.complete),
        )
        marks.over()
    return marks.row()


def function_way(trials: int) -> dict[str, Any]:
    """Our search over a function."""
    from experiments.runner.search import search
    from experiments.spec.space import Real

    marks, calls = Marks(trials), iter(range(1, trials + 1))

    def objective(hyperparameters: dict[str, Any], budget: int, report: Any) -> float:
        del budget, report
        made = next(calls)
        marks(made)
        return loss(hyperparameters["rate"], hyperparameters["momentum"], made)

    space = {"rate": Real(*RATE, "log"), "momentum": Real(*MOMENTUM, "reverse_log")}
    with tempfile.TemporaryDirectory() as folder:
        search(space, objective=objective, trials=trials, folder=folder + "/record", show=False)
        marks.over()
    return marks.row()


def optuna_way(trials: int) -> dict[str, Any]:
    """Optuna's loop, with its RDB storage."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    marks = Marks(trials)

    def objective(trial: optuna.Trial) -> float:
        rate = trial.suggest_float("rate", *RATE, log=True)
        return loss(rate, 1 - trial.suggest_float("rest", 1e-3, 0.5, log=True), trial.number)

    with tempfile.TemporaryDirectory() as folder:
        study = optuna.create_study(
            storage=f"sqlite:///{folder}/study.db", sampler=optuna.samplers.RandomSampler(seed=0)
        )
        callbacks = [lambda study, trial: marks(trial.number + 1)]
        study.optimize(objective, n_trials=trials, callbacks=callbacks)
        marks.over()
    return marks.row()


def tune_way(trials: int) -> dict[str, Any]:
    """Ray Tune."""
    import ray
    from ray import tune

    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"
    marks = Marks(trials, compiles=True)

    class Counted(tune.Callback):  # type: ignore[misc]
        made = 0

        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **more: Any) -> None:
            del iteration, trials, trial, more
            Counted.made += 1
            marks(Counted.made)

    def objective(config: dict[str, float]) -> None:
        tune.report({"loss": loss(config["rate"], 0.0, 0)})

    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            objective,
            param_space={"rate": tune.loguniform(*RATE), "momentum": tune.uniform(*MOMENTUM)},
            tune_config=tune.TuneConfig(num_samples=trials, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0, callbacks=[Counted()]),
        )
        tuner.fit()
    return marks.row()


WAYS: dict[str, Callable[[int], dict[str, Any]]] = {
    "threads": lambda trials: study_way(trials, ray=False),
    "ray": lambda trials: study_way(trials, ray=True),
    "one a task": lambda trials: study_way(trials, ray=True, one=True),
    "function": function_way,
    "optuna": optuna_way,
    "tune": tune_way,
}


def before_and_after(tree: Path, trials: int) -> dict[str, Any]:
    """`search` over a function by the code of ``tree`` and by ours, three processes each."""
    rows: dict[str, list[dict[str, Any]]] = {"before": [], "after": []}
    for _ in range(3):
        for name, root in (("before", tree), ("after", Path(__file__).parents[1])):
            command = [sys.executable, "-P", __file__, "--way", "function", "--trials", str(trials)]
            done = subprocess.run(
                command, env={**os.environ, "PYTHONPATH": str(root.resolve())},
                stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
            rows[name].append(json.loads(done.stdout.splitlines()[-1]))
            print(name, rows[name][-1], flush=True)
    trials_after = trials * (1 - 1 / FIFTHS)
    kept = {
        name: round(statistics.median(row["grown_mb"] for row in own) * 1024 / trials_after, 2)
        for name, own in rows.items()
    }
    return {"rows": rows, "kb_per_trial": kept}


def measured(way: str, trials: int) -> dict[str, Any]:
    """One way, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.many_trials", "--way", way]
    done = subprocess.run(
        [*command, "--trials", str(trials)], stdout=subprocess.PIPE, text=True, check=True
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(way, row, flush=True)
    return row


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--optuna", type=int, default=500, help="its trials")
    parser.add_argument("--tune", type=int, default=500, help="Ray Tune's trials")
    parser.add_argument("--quick", action="store_true", help="to see that it runs, not how fast")
    parser.add_argument("--way", choices=WAYS, help="this one alone; prints its row")
    parser.add_argument("--before", type=Path, help="compare the search with this tree's")
    options = parser.parse_args()
    if options.before:
        print(write_results("search_memory", before_and_after(options.before, options.trials)))
        return
    if options.way:
        print(json.dumps(WAYS[options.way](options.trials)))
        return
    trials = 200 if options.quick else options.trials
    numbers = dict.fromkeys(WAYS, trials)
    numbers |= {"one a task": max(50, trials // 5)}
    numbers |= {"optuna": min(trials, options.optuna), "tune": min(trials // 2, options.tune)}
    if importlib.util.find_spec("pandas") is None:  # which Ray Tune alone needs
        del numbers["tune"]
    rows = {way: measured(way, count) for way, count in numbers.items()}
    bars = {
        way: {"per_trial_ms": rows[way]["per_trial_ms"], "bar": BARS_MS[way]} for way in BARS_MS
    }
    results = {"ways": rows, "bars": bars, "without": sorted(WAYS.keys() - rows.keys())}
    name = "many_trials_quick" if options.quick else "many_trials"
    print(write_results(name, results))


if __name__ == "__main__":
    main()
