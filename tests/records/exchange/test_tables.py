"""A record's tables for other programs."""

from __future__ import annotations

import polars as pl
from support.records_factory import handmade
from support.records_files import on_disk

from experiments.cli import main
from experiments.records.store import read


def test_tables_are_those_of_the_record_and_no_cell_begins_a_formula(tmp_path):
    record = handmade({4: [("COMPLETE", {1: 0.9}), ("INCOMPLETE", {})]})
    attacks = ["=HYPERLINK(1)", "-1+1|cmd"]
    record.trials.insert_column(-1, pl.Series("note", attacks))
    ours = on_disk(tmp_path / "ours", record)
    for form, reader in (("csv", pl.read_csv), ("parquet", pl.read_parquet)):
        out = tmp_path / form
        assert main(["export", str(ours), "--to", form, str(out)]) == 0
        assert sorted(path.name for path in out.iterdir()) == [f"evaluations.{form}",
                                                               f"trials.{form}"]  # fmt: skip
        trials = reader(out / f"trials.{form}")
        held = read(ours)
        assert trials.drop("note", "message", "identity").equals(
            held.trials.drop("note", "message", "identity")
        )
        assert reader(out / f"evaluations.{form}").equals(held.evaluations)
        escape = "'" if form == "csv" else ""
        assert trials["note"].to_list() == [escape + text for text in attacks]
    assert main(["export", str(ours), "--to", "csv", str(tmp_path / "csv")]) == 2


def test_names_of_columns_begin_no_formula(tmp_path):
    record = handmade({4: [("COMPLETE", {1: 0.9})]})
    record.trials.insert_column(-1, pl.Series("=rate", [0.5]))
    ours = on_disk(tmp_path / "ours", record)
    assert main(["export", str(ours), "--to", "csv", str(tmp_path / "out")]) == 0
    assert ",'=rate" in (tmp_path / "out" / "trials.csv").read_text()
