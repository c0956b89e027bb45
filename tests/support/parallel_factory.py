"""A net with everything that could depend on devices: dropout, ghost batch norm, smoothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.diagnostics.gradient_noise import gradient_noise
from experiments.spec.trial import TrialResult
from experiments.training.layout import ONE_DEVICE, Execution, Layout, Mode
from experiments.training.population import Population
from experiments.training.program import Program
from support.engine_factory import resident_digits, tiny_study, tiny_trial
from support.mixed import GHOST, MIXED

VALUES = {"dropout_rate": 0.2, "label_smoothing": 0.1, "clip_threshold": 1.0}
BATCH = 27
"""Divides by nothing: six ghost batches, the last of seven examples."""
STEPS = 6


def mixed_program() -> Program:
    """Programs that record every step's norms, and the gradient's noise at evaluations."""
    study = tiny_study(workload=MIXED, clipping="global_norm")
    config = study.config("every")
    noise = (gradient_noise(config, GHOST),)
    return Program(config, resident_digits(), study.divergence_factor, measurements=noise)


def trained(
    program: Program,
    layout: Layout = ONE_DEVICE,
    slots: int = 1,
    trials: int = 1,
    mode: Mode = "scan",
    batch_size: int = BATCH,
) -> tuple[dict[int, TrialResult], Any]:
    """(results by index, final states) of trials of unequal lengths."""
    pending = [
        tiny_trial(i, batch_size, STEPS + i, learning_rate=0.05 / (i + 1), **VALUES)
        for i in range(trials)
    ]
    results: dict[int, TrialResult] = {}
    population = Population(program, batch_size, Execution(mode, slots, layout), lookahead=False)
    population.run(
        lambda: pending.pop(0) if pending else None,
        lambda result: results.__setitem__(result.trial.index, result),
    )
    return results, jax.device_get(population._pack.states)


def difference(one: Any, other: Any) -> float:
    """The largest |a - b| / (1 + |b|) over the leaves of two trees."""
    leaves = [[np.asarray(x, np.float64) for x in jax.tree.leaves(tree)] for tree in (one, other)]
    pairs = zip(*leaves, strict=True)
    return max(float(np.max(np.abs(a - b) / (1 + np.abs(b)), initial=0.0)) for a, b in pairs)


def apart(one: dict[int, TrialResult], other: dict[int, TrialResult]) -> float:
    """`difference` of what two runs of the same trials measured."""
    tables = [
        {i: (dict(result.evaluations), dict(result.norms or {})) for i, result in run.items()}
        for run in (one, other)
    ]
    return difference(*tables)


TESTS = Path(__file__).parents[1]
STRICT = ("-W", "error", "-W", "ignore:Error reading persistent compilation cache entry")
"""What the suite makes of warnings, for a child; see pyproject."""
SIMULATED = {
    "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8 "
    "--xla_cpu_collective_call_terminate_timeout_seconds=60",
    "NPROC": "16",  # with fewer threads than devices on two cores, jax 0.10.2 can deadlock
    "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
}
