"""Records of a sound study and of planted pathologies, simulated in one go.

Every trial's error falls as floor + (0.9 - floor) exp(-step / tau). With the best rate it passes
the goal after S_min (1 + B_noise / B) steps; a rate off by a factor f takes (f + 1/f) / 2 times as
long and diverges above ``diverges_above``. Points are log-uniform, as of a random search.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import polars as pl

from experiments.spec.space import Real
from experiments.spec.trial import evaluation_steps
from support.records_factory import GOAL, INITIAL_ERROR, MemoryRecord, describe, make_study

SIZES = (8, 32, 128)
LEAST, NOISE_BATCH = 40.0, 64.0
_LOW, _HIGH = 1e-3, 1.0


@dataclasses.dataclass(frozen=True)
class Law:
    """What a simulated study is like; the defaults are sound.

    Attributes:
      optimum: the best rate's place in the range, in [0, 1] on its log scale.
      diverges_above: off by this factor upwards a trial diverges.
      slower: batch size -> its steps over the law's.
      speed: > 1: everything is faster by this factor against the length of a trial.
      floor, noise: of the validation error.
      late_noise: of the second half of training.
      val_rises, train_rises: share of what was gained that is lost by the end, from a share of
        training, ``rises_from``, on.
      clipped: share of clipped steps; None without clipping.
      lucky: only the best trial of a search is fast.
      trials: batch size -> trials of each search, where they differ.
      longer: batch size -> its length over what the budgets need.
    """

    optimum: float = 0.5
    diverges_above: float = 8.0
    slower: tuple[tuple[int, float], ...] = ()
    speed: float = 1.0
    floor: float = 0.05
    noise: float = 0.004
    late_noise: float = 0.0
    val_rises: float = 0.0
    train_rises: float = 0.0
    rises_from: float = 0.4
    clipped: float | None = None
    lucky: bool = False
    trials: tuple[tuple[int, int], ...] = ()
    longer: tuple[tuple[int, float], ...] = ()


def steps_of(batch_size: int, law: Law) -> float:
    """Steps to the goal with the best rate."""
    return LEAST * (1 + NOISE_BATCH / batch_size) * dict(law.slower).get(batch_size, 1) / law.speed


def simulated(
    law: Law = Law(), seed: int = 0, seeds: Sequence[int] = tuple(range(6)), trials: int = 12
) -> MemoryRecord:
    """A record of ``len(seeds)`` searches of N trials at each of three batch sizes."""
    generator = np.random.default_rng([seed, 7])
    longer = dict(law.longer)
    needed = {b: max(600, math.ceil(40 * 1024 / b)) for b in SIZES}
    study = make_study(
        SIZES, trials=trials, seeds=seeds, step_budget=600, epochs=40,
        space={"learning_rate": Real(_LOW, _HIGH, "log")},
        train_steps={b: math.ceil(needed[b] * longer.get(b, 1)) for b in SIZES},
        clipping="none" if law.clipped is None else "global_norm",
        fixed={"momentum": 0.0, **({} if law.clipped is None else {"clip_threshold": 1.0})},
    )  # fmt: skip
    rows, tables = [], []
    for batch_size in SIZES:
        wanted = dict(law.trials).get(batch_size, trials)
        grid = np.array(evaluation_steps(study.length(batch_size)))
        for search in seeds:
            complete = index = 0
            while complete < wanted and index < 4 * trials:
                row, values = _trial(
                    generator, law, batch_size, grid, complete == 0 or not law.lucky
                )
                complete += row["status"] == "COMPLETE"
                key = {"batch_size": batch_size, "seed": search, "trial": index}
                length = study.length(batch_size)
                rows.append({**key, "identity": "", "train_steps": length, "seconds": 0.1,
                             "plan": 0, "message": "", "momentum": 0.0, **row})  # fmt: skip
                tables.append((key, values))
                index += 1
    return MemoryRecord(describe(study), pl.DataFrame(rows), _evaluations(tables))


def _trial(generator, law, batch_size, grid, fast):
    """(row, array of step, validation error, training error)."""
    place = generator.uniform()
    off = (_HIGH / _LOW) ** (place - law.optimum)
    row = {"learning_rate": _LOW * (_HIGH / _LOW) ** place, "status": "COMPLETE",
           "steps": int(grid[-1])}  # fmt: skip
    if law.clipped is not None:
        row["clipped_share"] = law.clipped
    if off > law.diverges_above:
        row |= {"status": "INFEASIBLE", "steps": 5}
        return row, np.array([grid[:3], np.full(3, 0.9), np.full(3, 0.9)])
    duration = steps_of(batch_size, law) * (off + 1 / off) / 2
    duration *= 1.0 if fast else 10.0
    # one seed's luck on its way to the goal
    duration *= math.exp(0.05 * generator.standard_normal())
    tau = duration / math.log((INITIAL_ERROR - law.floor) / (GOAL - law.floor))
    fall = (INITIAL_ERROR - law.floor) * np.exp(-grid / tau)
    share = np.clip((grid / grid[-1] - law.rises_from) / (1 - law.rises_from), 0, None)
    noise = law.noise * generator.standard_normal((2, len(grid)))
    noise[0] += law.late_noise * (grid > grid[-1] / 2) * generator.standard_normal(len(grid))
    gained = INITIAL_ERROR - law.floor
    val = law.floor + fall + law.val_rises * gained * share + noise[0]
    train = 0.8 * law.floor + fall + law.train_rises * gained * share + noise[1]
    return row, np.array([grid, np.abs(val), np.abs(train)])


def _evaluations(tables):
    lengths = [values.shape[1] for _, values in tables]
    columns = np.concatenate([values for _, values in tables], axis=1)
    keys = {
        name: np.repeat([key[name] for key, _ in tables], lengths).astype(np.int64)
        for name in ("batch_size", "seed", "trial")
    }
    steps = columns[0].astype(np.int64)
    return pl.DataFrame(
        {
            **keys, "step": steps, "examples": steps * keys["batch_size"],
            "validation/classification_error": columns[1],
            "train/classification_error": columns[2],
        }
    )  # fmt: skip


def sound(seed: int) -> MemoryRecord:
    """A sound record whose law differs a little from seed to seed: optimum, noise, searches."""
    generator = np.random.default_rng([seed, 11])
    law = Law(
        optimum=generator.uniform(0.35, 0.65),
        diverges_above=generator.uniform(6.0, 20.0),
        noise=generator.uniform(0.001, 0.006),
        speed=generator.uniform(0.7, 1.1),
    )
    return simulated(law, seed, seeds=range(int(generator.integers(3, 7))))
