"""Walks the paths and records them, so that they can be drawn again without a step.

What the record holds: records/paths.py.
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import polars as pl

from experiments.records.paths import open_paths
from experiments.runtime.compilation import switched
from experiments.runtime.stopping import deferred
from experiments.spec.paths import Paths, Surface
from optimizers import OPTIMIZERS
from workloads.registry import resolve

CELLS = (48, 36)
"""Cells of a surface's picture, across and down."""


def run_paths(paths: Paths, folder: Path | str, *, resume: bool = True) -> Path:
    """Walk all paths and write their record into ``folder``.

    Raises:
      RecordError: the folder cannot be written, another process writes there, or it holds another
        record, or any and ``resume`` is false.
      KeyboardInterrupt: on Ctrl-C or SIGTERM; what was recorded before stays.
    """
    folder = Path(folder)
    with (
        deferred() as stop,
        open_paths(folder, paths.describe(), resume) as writer,
        switched(),
    ):
        tables = []
        for surface in paths.surfaces:
            for optimizer in paths.optimizers:
                stop.check()
                tables.append(walked(paths, surface, optimizer))
        pictures = [picture(surface) for surface in paths.surfaces]
        writer.write({"paths": pl.concat(tables), "surfaces": pl.concat(pictures)})
    return folder


def walked(paths: Paths, surface: Surface, optimizer: str) -> pl.DataFrame:
    """The path of one optimizer at the best of the rates."""
    rates = np.asarray(paths.rates, np.float32)
    fixed = paths.hyperparameters(optimizer)
    walk = jax.jit(jax.vmap(lambda rate: _walk(surface, optimizer, fixed, rate, paths.steps)))
    points, heights = map(np.asarray, walk(rates))
    # A path that leaves the numbers is never the best.
    means = np.where(np.isfinite(heights).all(axis=1), heights.mean(axis=1), np.inf)
    best = int(np.argmin(means))
    steps = np.arange(paths.steps + 1)
    return pl.DataFrame(
        {
            "surface": [surface.name] * len(steps),
            "optimizer": [optimizer] * len(steps),
            "learning_rate": np.full(len(steps), paths.rates[best]),
            "step": steps,
            "x": points[best, :, 0].astype(np.float64),
            "y": points[best, :, 1].astype(np.float64),
            "value": heights[best].astype(np.float64),
        }
    )


def picture(surface: Surface) -> pl.DataFrame:
    """The heights at the middles of `CELLS`."""
    x, y = (
        np.linspace(low, high, cells + 1)
        for low, high, cells in zip(surface.low, surface.high, CELLS, strict=True)
    )
    left, bottom = (corner.ravel() for corner in np.meshgrid(x[:-1], y[:-1]))
    right, top = left + (x[1] - x[0]), bottom + (y[1] - y[0])
    height = resolve(surface.function)((left + right) / 2, (bottom + top) / 2) - surface.minimum
    columns = {"x": left, "x2": right, "y": bottom, "y2": top, "value": height}
    return pl.DataFrame({"surface": [surface.name] * len(left), **columns})


def _walk(
    surface: Surface, optimizer: str, fixed: dict[str, float], rate: jax.Array, steps: int
) -> tuple[jax.Array, jax.Array]:
    """(points [steps + 1, 2], heights above the minimum [steps + 1]) at one rate."""
    function = resolve(surface.function)
    row = OPTIMIZERS[optimizer]
    rule = row.transformation({**fixed, "learning_rate": rate})

    def height(params: dict[str, jax.Array]) -> jax.Array:
        return function(params["point"][0], params["point"][1]) - surface.minimum

    def step(carry: tuple, _: None) -> tuple:
        params, state = carry
        value, gradient = jax.value_and_grad(height)(params)
        extra = {"value": value, "value_fn": height} if row.needs_value_fn else {}
        updates, state = rule.update(gradient, state, params, **extra)
        seen = row.parameters_to_evaluate(state, params)
        return (optax.apply_updates(params, updates), state), (seen["point"], height(seen))

    start = {"point": jnp.asarray(surface.start, jnp.float32)}
    return jax.lax.scan(step, (start, rule.init(start)), None, length=steps + 1)[1]
