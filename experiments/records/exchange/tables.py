"""A record's tables as CSV or Parquet, one file a table, streamed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from experiments.records.exchange.staging import new_folder
from experiments.records.files import RecordError
from experiments.records.reader import read
from experiments.records.schema import TABLES

if TYPE_CHECKING:
    import polars as pl

FORMULA = "^[=+@\t\r\n-]"
"""What a spreadsheet takes for the beginning of a formula."""


def export_tables(folder: Path, out: Path, form: Literal["csv", "parquet"]) -> Path:
    """Write ``out/trials.csv`` and a file each of the other tables there are.

    In CSV a text that a spreadsheet would take for a formula begins with an apostrophe.

    Raises:
      RecordError: there is no readable record, or ``out`` exists or cannot be written.
    """
    record = read(folder)
    with new_folder(out) as building:
        for table in TABLES:
            rows = record.trials.lazy() if table == "trials" else record.scan(table)
            if rows is None:
                continue
            path = building / f"{table}.{form}"
            if form == "csv":
                escaped(rows).sink_csv(path)
            elif form == "parquet":
                rows.sink_parquet(path)
            else:
                raise RecordError(f"a form must be csv or parquet, got {form!r}")
    return out


def escaped(rows: pl.LazyFrame) -> pl.LazyFrame:
    """``rows`` with an apostrophe before every text, and name of a column, like a formula."""
    import polars as pl
    import polars.selectors as cs

    text = cs.string()
    safe = pl.when(text.str.contains(FORMULA)).then("'" + text).otherwise(text).name.keep()
    names = {
        name: f"'{name}" for name in rows.collect_schema() if name.startswith(tuple("=+-@\t\r\n"))
    }
    return rows.with_columns(safe).rename(names)
