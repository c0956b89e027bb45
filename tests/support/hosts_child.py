"""One of two processes that train a study together, to be killed: the member without its parent."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from unittest import mock

from experiments import cli
from experiments.commands import run
from experiments.commands.several import MEMBER
from support.checkpoint_child import long_study, watched
from support.engine_factory import tiny_study
from workloads import Goal


def pair_study():
    """Two short trials, one after the other."""
    return dataclasses.replace(long_study(), name="pair", step_budget=100, example_budget=512)


def raced_study():
    """Two searches in rounds, the second of which races: some trials pass the goal, some do not."""
    return tiny_study(
        name="raced", batch_sizes=(8, 32), step_budget=24, example_budget=192, trials=4,
        seeds=(0, 1), sampler="rounds", stop="race", race_factor=1.1, record_norms="off",
        goal=Goal("classification_error", 0.6), fixed={"momentum": 0.9},
        space={"learning_rate": {"low": 1e-5, "high": 1.0, "scale": "log"}},
    )  # fmt: skip


def bracket_study():
    """One bracket of the same trials."""
    return dataclasses.replace(
        raced_study(), name="bracket", batch_sizes=(8,), seeds=(0,), sampler="halton",
        stop="never", pruner="successive_halving", pruner_resource=9,
    )  # fmt: skip


def run_member(
    folder: Path, index: int, arguments: list[str], environ: dict[str, str], report: bool = False
) -> None:
    """The command ``batchscale`` as process ``index``, last states and stderr into its folder;
    process 0 draws the report where it is asked for."""
    os.environ.update(environ)
    os.environ[MEMBER] = str(os.open(os.devnull, os.O_WRONLY))
    mine = folder / str(index)
    mine.mkdir(parents=True, exist_ok=True)
    shown = run.summarise if report else lambda folder: 0
    with (
        watched(mine / "ends"),
        open(mine / "stderr", "w") as errors,
        mock.patch.object(run, "summarise", shown),
    ):
        os.dup2(errors.fileno(), sys.stdout.fileno())
        os.dup2(errors.fileno(), sys.stderr.fileno())
        code = cli.main([*arguments, "--process-id", str(index)])
        sys.stdout.flush()
    os._exit(code)  # as the real one ends, without interpreter shutdown
