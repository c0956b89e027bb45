"""Results of trials as tables, column names and types as in schema.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.records.files import RecordError
from experiments.records.schema import (
    MEASUREMENT_KEY,
    NORM_COLUMNS,
    OPTIONAL_TRIAL_COLUMNS,
    TRIAL_COLUMNS,
)
from experiments.spec.trial import LAYER_NORMS, LAYERS, TrialResult

if TYPE_CHECKING:
    import polars as pl

TRIAL_KEY = MEASUREMENT_KEY[:3]
_TEXT = ("identity", "status", "message")
_WHOLE = (*MEASUREMENT_KEY, "examples", "train_steps", "steps", "plan")


def column_type(name: str) -> type[pl.DataType]:
    """Int64 for keys and counts, String for words, Float64 for everything measured."""
    import polars as pl

    return pl.String if name in _TEXT else pl.Int64 if name in _WHOLE else pl.Float64


def trials_table(results: Sequence[TrialResult]) -> pl.DataFrame:
    """One row a trial, hyperparameters after the fixed columns; null where one has none."""
    import polars as pl

    columns: dict[str, list[Any]] = {
        "batch_size": [r.trial.batch_size for r in results],
        "seed": [r.trial.seed for r in results],
        "trial": [r.trial.index for r in results],
        "identity": [r.trial.identity for r in results],
        "status": [str(r.status) for r in results],
        "train_steps": [r.trial.train_steps for r in results],
        "steps": [r.steps for r in results],
        "seconds": [r.seconds for r in results],
        "plan": [r.plan for r in results],
        "message": [r.message for r in results],
    }
    if any(r.clipped_share is not None for r in results):
        columns["clipped_share"] = [r.clipped_share for r in results]
    for name in dict.fromkeys(name for r in results for name in r.trial.hyperparameters):
        if name in (*TRIAL_COLUMNS, *OPTIONAL_TRIAL_COLUMNS):
            raise RecordError(f"hyperparameter {name!r} has the name of a column of the record")
        columns[name] = [r.trial.hyperparameters.get(name) for r in results]
    return pl.DataFrame(columns, schema={name: column_type(name) for name in columns})


def measurements_table(
    results: Sequence[TrialResult], measured: Sequence[Mapping[str, np.ndarray]]
) -> pl.DataFrame:
    """One row a measurement: the trial's key beside the columns of its ``measured``.

    A column that one result has and another lacks is null in the other's rows; NaN stays NaN.
    """
    import polars as pl

    lengths = np.array(
        [_length(r, m) for r, m in zip(results, measured, strict=True)], dtype=np.int64
    )
    columns = {
        name: pl.Series(name, np.repeat(np.array(values, dtype=np.int64), lengths))
        for name, values in (
            ("batch_size", [r.trial.batch_size for r in results]),
            ("seed", [r.trial.seed for r in results]),
            ("trial", [r.trial.index for r in results]),
        )
    }
    for name in dict.fromkeys(("step", *(name for m in measured for name in m))):
        columns[name] = _column(name, measured, lengths)
    return pl.DataFrame(columns)


def without_layers(result: TrialResult) -> dict[str, np.ndarray]:
    """The columns of its evaluations that are not of one layer."""
    return {k: v for k, v in result.evaluations.items() if not k.startswith(LAYERS)}


def layers_of(results: Sequence[TrialResult]) -> list[str]:
    """The layers whose norms are among the evaluations."""
    names = dict.fromkeys(name for r in results for name in r.evaluations)
    paths = [name.removeprefix(LAYERS) for name in names if name.startswith(LAYERS)]
    return list(dict.fromkeys(path.rpartition("/")[0] for path in paths))


def layers_table(results: Sequence[TrialResult], layers: Sequence[str]) -> pl.DataFrame:
    """One row an evaluation and layer."""
    import polars as pl

    pieces = []
    for layer in layers:
        columns = {norm: f"{LAYERS}{layer}/{norm}" for norm in LAYER_NORMS}
        mine = [r for r in results if columns[LAYER_NORMS[0]] in r.evaluations]
        measured = [
            {"step": r.evaluations["step"]} | {n: r.evaluations[c] for n, c in columns.items()}
            for r in mine
        ]
        pieces.append(measurements_table(mine, measured).with_columns(layer=pl.lit(layer)))
    return pl.concat(pieces)


def with_examples(measured: pl.DataFrame) -> pl.DataFrame:
    """``examples`` consumed: as measured, else step * batch_size (one batch size throughout)."""
    import polars as pl

    constant = pl.col("step") * pl.col("batch_size")
    if "examples" not in measured.columns:
        return measured.with_columns(examples=constant)
    return measured.with_columns(examples=pl.col("examples").fill_null(constant))


def ordered(table: pl.DataFrame, hyperparameters: Sequence[str] = ()) -> pl.DataFrame:
    """Rows by key and columns in one fixed order, whatever the order of writing."""
    first: tuple[str, ...] = (*MEASUREMENT_KEY, "examples", "layer")
    key = tuple(name for name in (*MEASUREMENT_KEY, "layer") if name in table.columns)
    if "status" in table.columns:
        first, key = (*TRIAL_COLUMNS, *OPTIONAL_TRIAL_COLUMNS, *hyperparameters), TRIAL_KEY
    leading = [name for name in first if name in table.columns]
    norms = [name for name in NORM_COLUMNS if name in table.columns and name not in leading]
    rest = sorted(set(table.columns) - {*leading, *norms})
    return table.select(*leading, *rest, *norms).sort(key)


def _length(result: TrialResult, measured: Mapping[str, np.ndarray]) -> int:
    sizes = {name: len(values) for name, values in measured.items()}
    if measured and ("step" not in measured or len(set(sizes.values())) > 1):
        raise RecordError(
            f"measurements of trial {result.trial.key} must hold `step` and be equally long, "
            f"got {sizes}"
        )
    return sizes.get("step", 0)


def _column(
    name: str, measured: Sequence[Mapping[str, np.ndarray]], lengths: np.ndarray
) -> pl.Series:
    import polars as pl

    dtype = np.int64 if name in _WHOLE else np.float64
    pieces = [
        np.asarray(m[name] if name in m else np.zeros(length), dtype=dtype)
        for m, length in zip(measured, lengths, strict=True)
    ]
    values = pl.Series(name, np.concatenate([np.zeros(0, dtype), *pieces]))
    missing = np.repeat([name not in m for m in measured], lengths)
    return values.set(pl.Series(missing), None) if missing.any() else values
