"""measurements.csv: many small tables of one header, read at once and written one by one.

The first column is ``step``, the others are ``split/metric`` with split train, val or test. In a
record val is ``validation`` and ``cross_entropy_error`` is ``cross_entropy``; other names stay. An
empty field is null, ``nan`` and ``inf`` are themselves.
"""

from __future__ import annotations

import dataclasses
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from experiments.records.exchange.layout import MEASUREMENTS
from experiments.records.exchange.published import SHARES
from experiments.records.files import RecordError
from experiments.spec.values import MOST_STEPS

if TYPE_CHECKING:
    import polars as pl

SPLITS = {"train": "train", "val": "validation", "test": "test"}
METRICS = {"cross_entropy_error": "cross_entropy"}
_SPLITS_BACK = {ours: theirs for theirs, ours in SPLITS.items()}
_METRICS_BACK = {ours: theirs for theirs, ours in METRICS.items()}
_COLUMN = re.compile(r"(train|val|test)/(\w+)", re.ASCII)


def ours(column: str) -> str:
    """A record's name of a column of the archive."""
    split, metric = column.split("/")
    return f"{SPLITS[split]}/{METRICS.get(metric, metric)}"


def theirs(column: str) -> str | None:
    """The archive's name of a record's column, None where it has no place there."""
    split, slash, metric = column.partition("/")
    name = f"{_SPLITS_BACK.get(split, '')}/{_METRICS_BACK.get(metric, metric)}"
    return name if slash and _COLUMN.fullmatch(name) and ours(name) == column else None


@dataclasses.dataclass(frozen=True)
class RawTable:
    """A measurements.csv, not yet parsed.

    Attributes:
      path: of the file.
      header: its columns.
      rows: the lines after the header, each ended by a newline.
      count: number of these lines.
    """

    path: Path
    header: tuple[str, ...]
    rows: bytes
    count: int


def read_raw(folder: Path) -> RawTable:
    """The file of a trial; its header is checked, and that every line has as many fields.

    Raises:
      RecordError: it is missing, has an unknown column, or a line with more or fewer fields.
    """
    path = folder / MEASUREMENTS
    try:
        with open(path, "rb", buffering=0) as file:
            data = file.read()
    except FileNotFoundError:
        raise RecordError(f"{path} is missing") from None
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error})") from error
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
    head, _, rows = data.partition(b"\n")
    if rows and not rows.endswith(b"\n"):
        rows += b"\n"
    header = _header(path, head)
    count = rows.count(b"\n")
    if rows.count(b",") != count * (len(header) - 1) or (rows and b"\n\n" in b"\n" + rows):
        raise RecordError(f"{path} {_uneven(rows, len(header))}")
    return RawTable(path, header, rows, count)


_KNOWN: dict[bytes, tuple[str, ...]] = {}
"""Headers that were checked: an archive has a handful, in very many files."""


def _header(path: Path, head: bytes) -> tuple[str, ...]:
    if head in _KNOWN:
        return _KNOWN[head]
    columns = tuple(head.decode("utf-8", errors="replace").split(","))
    if columns[0] != "step":
        raise RecordError(f"{path}: the first column must be 'step', got {columns[0][:80]!r}")
    for name in columns[1:]:
        if not _COLUMN.fullmatch(name):
            raise RecordError(
                f"{path} has the unknown column {name[:80]!r} (known: step, then train/, val/ or "
                "test/ and a metric)"
            )
    known = [ours(name) for name in columns[1:]]
    for name in known:
        if known.count(name) > 1:
            raise RecordError(f"{path} has two columns of {name}")
    if len(columns) == 1:
        raise RecordError(f"{path} has no column beside 'step'")
    _KNOWN[head] = columns
    return columns


def _uneven(rows: bytes, wide: int) -> str:
    for number, line in enumerate(rows.splitlines(), start=2):
        if line.count(b",") != wide - 1:
            fields = line.count(b",") + 1 if line else 0
            return f"line {number} has {fields} fields, the header {wide}"
    return "has lines of other lengths than its header"


def parse(tables: Sequence[RawTable]) -> pl.DataFrame:
    """The rows of tables of one header: ``step`` (Int32), then a record's columns (Float64).

    Raises:
      RecordError: a value is no number, a step is empty or beyond int32, or a share is not in
        [0, 1]; the message names the file and the line.
    """
    import polars as pl

    header = tables[0].header
    schema: dict[str, pl.DataType] = {"step": pl.Int64()}
    schema |= {ours(name): pl.Float64() for name in header[1:]}
    data = b"".join(table.rows for table in tables)
    if not data:
        found = pl.DataFrame(schema=schema)
    else:
        try:
            found = pl.read_csv(
                io.BytesIO(data), has_header=False, schema=schema, quote_char=None, glob=False
            )
        except pl.exceptions.PolarsError as error:
            raise _first_wrong(tables) from error
    counts = [table.count for table in tables]
    if len(found) != sum(counts):
        raise _first_wrong(tables)
    step = found["step"]
    if step.null_count() or (len(step) and not 0 <= step.min() <= step.max() <= MOST_STEPS):  # type: ignore[operator]
        raise _first_wrong(tables)
    for name in schema:
        if name.partition("/")[2] in SHARES:
            _check_share(found[name], name, tables)
    return found.with_columns(pl.col("step").cast(pl.Int32))


def _first_wrong(tables: Sequence[RawTable]) -> RecordError:
    """The error of the first value that is not what its column holds."""
    for table in tables:
        for number, line in enumerate(table.rows.decode("utf-8", "replace").splitlines(), start=2):
            step, *values = line.split(",")
            where = f"{table.path} line {number}"
            if len(values) != len(table.header) - 1:
                return RecordError(f"{table.path} {_uneven(table.rows, len(table.header))}")
            if not step.isascii() or not step.isdigit() or int(step) > MOST_STEPS:
                return RecordError(f"{where}: step must be a whole number, got {step[:80]!r}")
            for name, text in zip(table.header[1:], values, strict=True):
                try:
                    float(text or "nan")
                except ValueError:
                    return RecordError(f"{where}: {name} must be a number, got {text[:80]!r}")
    return RecordError(f"{tables[0].path}, or one of the {len(tables)} after it, cannot be read")


def _check_share(values: pl.Series, name: str, tables: Sequence[RawTable]) -> None:
    outside = (values.is_finite() & ((values < 0) | (values > 1))).fill_null(False)
    if outside.any():
        at = int(outside.arg_max() or 0)
        ends = np.cumsum([table.count for table in tables])
        table = tables[int(np.searchsorted(ends, at, side="right"))]
        raise RecordError(
            f"{table.path}: {name} must be a share in [0, 1], got {values[at]:g} (another unit?)"
        )
