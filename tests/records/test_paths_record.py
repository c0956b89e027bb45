"""Records of paths and of comparisons obey the rules of a study's record."""

from __future__ import annotations

import json
import shutil

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from experiments.records import files
from experiments.records.comparisons import open_comparison, read_comparison
from experiments.records.files import RecordError
from experiments.records.paths import open_paths, read_paths

QUESTION = {"name": "walks", "surfaces": [], "optimizers": ["sgd"]}
TABLES = {
    "paths": pl.DataFrame({"step": [0, 1], "value": [1.0, 0.5]}),
    "surfaces": pl.DataFrame({"x": [0.0], "value": [2.0]}),
}
COMPARED = {"name": "race", "question": "", "expected": "", "studies": ["sgd"]}


def written(folder, tables=TABLES):
    with open_paths(folder, QUESTION) as writer:
        writer.write(tables)
    return folder


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_paths_are_read_back_and_replaced(tmp_path):
    written(tmp_path)
    other = {**TABLES, "paths": TABLES["paths"].head(1)}
    written(tmp_path, other)
    question, paths, surfaces = read_paths(tmp_path)
    assert question["name"] == "walks" and question["schema_version"] == 2
    assert_frame_equal(paths, other["paths"])
    assert_frame_equal(surfaces, TABLES["surfaces"])
    names = {"paths.json", "lock", "paths-000002.parquet", "surfaces-000002.parquet"}
    assert set(contents(tmp_path)) == names


def test_an_interrupted_replacement_leaves_the_old_paths(tmp_path, monkeypatch):
    """At every rename: the record is the old one until paths.json is renamed."""
    real, left = files.os.replace, 0

    def interrupted(*arguments):
        nonlocal left
        left -= 1
        if left == 0:
            raise OSError(28, "No space left on device")
        return real(*arguments)

    written(tmp_path)
    for call in (1, 2, 3):
        left = call
        monkeypatch.setattr(files.os, "replace", interrupted)
        with pytest.raises(RecordError, match="is full"):
            written(tmp_path, {**TABLES, "paths": TABLES["paths"].head(1)})
        monkeypatch.undo()
        assert_frame_equal(read_paths(tmp_path)[1], TABLES["paths"])


def test_no_resume_another_name_and_a_second_writer_are_refused(tmp_path):
    written(tmp_path)
    before = contents(tmp_path)
    for question, resume, message in (
        (QUESTION, False, "already holds the paths 'walks'"),
        ({**QUESTION, "name": "runs"}, True, "holds the paths 'walks', not 'runs'"),
    ):
        with pytest.raises(RecordError, match=message), open_paths(tmp_path, question, resume):
            pass
    with pytest.raises(RecordError, match="holds the record of paths"):
        open_comparison(tmp_path, COMPARED)
    assert contents(tmp_path) == before
    with (
        open_paths(tmp_path, QUESTION),
        pytest.raises(RecordError, match="written by process"),
        open_paths(tmp_path, QUESTION),
    ):
        pass


@pytest.mark.parametrize("name", ["paths-000001.parquet", "surfaces-000001.parquet", "paths.json"])
def test_damaged_paths_are_refused_by_the_files_name(tmp_path, name):
    path = written(tmp_path) / name
    whole = path.read_bytes()
    for place in range(5, len(whole) - 1, 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(RecordError, match=name):
            read_paths(tmp_path)
    path.unlink()
    with pytest.raises(RecordError, match=name):
        read_paths(tmp_path)


def test_paths_of_version_1_are_read(tmp_path):
    (tmp_path / "paths.json").write_text(json.dumps({**QUESTION, "schema_version": 1}))
    for table, rows in TABLES.items():
        rows.write_parquet(tmp_path / f"{table}.parquet")
    assert_frame_equal(read_paths(tmp_path)[1], TABLES["paths"])
    written(tmp_path)
    assert not (tmp_path / "paths.parquet").exists()
    assert_frame_equal(read_paths(tmp_path)[1], TABLES["paths"])


def test_a_comparison_grows_and_is_refused_when_damaged(tmp_path):
    open_comparison(tmp_path, COMPARED)
    open_comparison(tmp_path, {**COMPARED, "studies": ["adam"]})
    assert read_comparison(tmp_path)["studies"] == ["sgd", "adam"]
    path = tmp_path / "comparison.json"
    path.write_text(path.read_text().replace('"adam"', '"adan"'))
    copy = shutil.copytree(tmp_path, tmp_path / "copy")
    for call in (lambda: read_comparison(copy), lambda: open_comparison(copy, COMPARED)):
        with pytest.raises(RecordError, match=r"comparison\.json was damaged or edited"):
            call()
    path.write_text(json.dumps({"schema_version": 1, "name": "race"}))
    with pytest.raises(RecordError, match="lacks 'question'"):
        read_comparison(tmp_path)
