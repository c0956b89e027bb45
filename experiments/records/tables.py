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
from experiments.spec.trial import LAYER_NORMS, LAYERS, Status, TrialResult

if TYPE_CHECKING:
    import polars as pl

TRIAL_KEY = MEASUREMENT_KEY[:3]
_TEXT = ("identity", "status", "message", "reason")
_WIDE = ("batch_size", "seed", "examples")
_WHOLE = ("trial", "step", "train_steps", "steps", "plan", "race_bound")


def column_type(name: str) -> type[pl.DataType]:
    """The type of a column in a part.

    String for words; Int64 for ``batch_size``, ``seed`` and ``examples``; Int32 for other counts (a
    step is an int32 on the device too); Float64 for everything measured.
    """
    import polars as pl

    if name in _WHOLE:
        return pl.Int32
    return pl.String if name in _TEXT else pl.Int64 if name in _WIDE else pl.Float64


def group_tables(results: Sequence[TrialResult]) -> dict[str, pl.DataFrame]:
    """The tables of a group in the order they are written, each `ordered`.

    Raises:
      RecordError: a COMPLETE trial without measurements, or columns of unequal length.
    """
    for result in results:
        if result.status == Status.COMPLETE and not len(result.evaluations.get("step", ())):
            raise RecordError(f"trial {result.trial.key} is COMPLETE and holds no measurement")
    kept = [_without_layers(r) for r in results]
    found = {"evaluations": with_examples(measurements_table(results, kept))}
    stepped = [r for r in results if r.norms is not None]
    if stepped:
        norms = measurements_table(stepped, [r.norms or {} for r in stepped])
        found["norms"] = with_examples(norms)
    if layers := _layers_of(results):
        found["layers"] = _layers_table(results, layers)
    found["trials"] = trials_table(results)
    return {table: ordered(rows) for table, rows in found.items()}


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
        "reason": [r.reason or None for r in results],
        "race_bound": [r.trial.race_bound for r in results],
    }
    if any(r.clipped_share is not None for r in results):
        columns["clipped_share"] = [r.clipped_share for r in results]
    for name in dict.fromkeys(name for r in results for name in r.trial.hyperparameters):
        if name in (*TRIAL_COLUMNS, *OPTIONAL_TRIAL_COLUMNS):
            raise RecordError(f"hyperparameter {name!r} has the name of a column of the record")
        columns[name] = [r.trial.hyperparameters.get(name) for r in results]
    schema = {name: column_type(name) for name in columns}
    for name, values in columns.items():  # a choice among words, in a search over a user's code
        if any(isinstance(value, str) for value in values):
            schema[name] = pl.String
    return pl.DataFrame(columns, schema=schema)


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
        name: pl.Series(
            name, np.repeat(np.array(values, dtype=np.int64), lengths), dtype=column_type(name)
        )
        for name, values in (
            ("batch_size", [r.trial.batch_size for r in results]),
            ("seed", [r.trial.seed for r in results]),
            ("trial", [r.trial.index for r in results]),
        )
    }
    for name in dict.fromkeys(("step", *(name for m in measured for name in m))):
        columns[name] = _column(name, measured, lengths)
    return pl.DataFrame(columns)


def _without_layers(result: TrialResult) -> dict[str, np.ndarray]:
    """The columns of its evaluations that are not of one layer."""
    return {k: v for k, v in result.evaluations.items() if not k.startswith(LAYERS)}


def _layers_of(results: Sequence[TrialResult]) -> list[str]:
    """The layers whose norms are among the evaluations."""
    names = dict.fromkeys(name for r in results for name in r.evaluations)
    paths = [name.removeprefix(LAYERS) for name in names if name.startswith(LAYERS)]
    return list(dict.fromkeys(path.rpartition("/")[0] for path in paths))


def _layers_table(results: Sequence[TrialResult], layers: Sequence[str]) -> pl.DataFrame:
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
    return _with_examples(measured.lazy()).collect()


def as_read(rows: pl.LazyFrame, hyperparameters: Sequence[str] = ()) -> pl.LazyFrame:
    """Rows of parts as readers see them: columns `in_order`, all whole numbers Int64.

    So tables join with each other and with tables made in memory. Rows of the old schema version
    lack ``examples`` where the batch size is constant.
    """
    import polars as pl

    schema = rows.collect_schema()
    if "status" not in schema and "layer" not in schema:
        rows = _with_examples(rows)
    counts = [pl.col(name).cast(pl.Int64) for name in schema if name in _WHOLE]
    columns = in_order(rows.collect_schema().names(), hyperparameters)
    return rows.with_columns(counts).select(columns)


def _with_examples(measured: pl.LazyFrame) -> pl.LazyFrame:
    import polars as pl

    constant = pl.col("step") * pl.col("batch_size")
    if "examples" not in measured.collect_schema():
        return measured.with_columns(examples=constant)
    return measured.with_columns(examples=pl.col("examples").fill_null(constant))


def in_order(columns: Sequence[str], hyperparameters: Sequence[str] = ()) -> list[str]:
    """The columns of a table in one fixed order, whatever the order of writing."""
    first: tuple[str, ...] = (*MEASUREMENT_KEY, "examples", "layer")
    if "status" in columns:
        first = (*TRIAL_COLUMNS, *OPTIONAL_TRIAL_COLUMNS, *hyperparameters)
    leading = [name for name in first if name in columns]
    norms = [name for name in NORM_COLUMNS if name in columns and name not in leading]
    return [*leading, *sorted({*columns} - {*leading, *norms}), *norms]


def ordered(table: pl.DataFrame, hyperparameters: Sequence[str] = ()) -> pl.DataFrame:
    """Rows by key and columns `in_order`."""
    rows = ("batch_size", "seed", "trial", "step", "layer")
    key = [
        name for name in rows if name in table.columns and ("status" not in table.columns or
                                                            name in TRIAL_KEY)
    ]  # fmt: skip
    return table.select(in_order(table.columns, hyperparameters)).sort(key)


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

    dtype = np.int64 if name in (*_WIDE, *_WHOLE) else np.float64
    pieces = [
        np.asarray(m[name] if name in m else np.zeros(length), dtype=dtype)
        for m, length in zip(measured, lengths, strict=True)
    ]
    values = pl.Series(name, np.concatenate([np.zeros(0, dtype), *pieces]), dtype=column_type(name))
    missing = np.repeat([name not in m for m in measured], lengths)
    return values.set(pl.Series(missing), None) if missing.any() else values
