"""The record knows when it is damaged, and no interruption damages it."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from polars.testing import assert_frame_equal

from experiments.records import compaction, files, groups
from experiments.records.store import RecordError, Writer, read, read_study
from experiments.spec.trial import Status, Trial, TrialResult

FLIPS = 150  # per file; a part is covered by its checksum whole, so any place may stand for all


def study(identity: str = "one") -> dict:
    fields = {"trials": 4, "seeds": [0], "batch_sizes": [8], "train_steps": {"8": 3}}
    return {
        "identity": identity,
        "study": {"name": identity, **fields},
        "hyperparameters": ["rate"],
    }


def result(index: int, status: Status = Status.COMPLETE, identity: str = "one") -> TrialResult:
    trial = Trial(8, 0, index, 3, {"rate": 0.1 * index}, f"{identity}-{index}")
    steps = np.arange(1, 4)
    measured = {"step": steps, "validation/error": (1 + index + len(identity)) / steps}
    norms = {"step": steps, "gradient_norm": np.full(3, float(index))}
    return TrialResult(trial, status, 3, measured, norms)


def written(folder: Path, identity: str = "one", commits: int = 2) -> Path:
    with Writer.open(folder, study(identity)) as writer:
        for index in range(commits):
            writer.commit([result(index, identity=identity)])
    return folder


def load(folder: Path) -> tuple:
    record = read(folder)
    return record.study, record.trials, record.evaluations, record.norms


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refusal(folder: Path) -> str:
    """The one line with which reading is refused; a writer says the same and changes nothing."""
    before = contents(folder)
    with pytest.raises(RecordError) as error:
        load(folder)
    with pytest.raises(RecordError) as writing:
        Writer.open(folder, study())
    assert str(writing.value) == str(error.value) and "\n" not in str(error.value)
    assert contents(folder) == before
    return str(error.value)


@pytest.mark.parametrize("table", ["trials", "evaluations", "norms"])
def test_any_flipped_bit_of_a_part_is_one_line_that_names_it(tmp_path, table):
    path = written(tmp_path) / f"records/{table}-000001.parquet"
    whole, rng = path.read_bytes(), random.Random(1)
    places = [0, len(whole) - 1, *(rng.randrange(len(whole)) for _ in range(FLIPS))]
    for place in places:
        data = bytearray(whole)
        data[place] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with pytest.raises(RecordError, match=rf"{path.name} is damaged \("):
            load(tmp_path)
    path.write_bytes(data)
    assert path.name in refusal(tmp_path)


def test_rows_of_some_trials_come_from_their_parts_alone_which_are_verified(tmp_path):
    """Trial 0 is in group 1, trials 1 and 2 in group 2, whose evaluations are damaged."""
    with Writer.open(written(tmp_path, commits=1), study()) as writer:
        writer.commit([result(1), result(2)])
    record = read(tmp_path)
    whole = record.evaluations
    for index in range(3):
        of = record.trials.filter(trial=index)
        found = record.scan("evaluations", of).sort("step").collect()
        assert_frame_equal(found, whole.filter(trial=index))
    assert record.scan("evaluations", record.trials.clear()).collect().is_empty()
    path = tmp_path / "records/evaluations-000002.parquet"
    data = bytearray(path.read_bytes())
    data[40] ^= 1
    path.write_bytes(data)
    assert len(read(tmp_path).scan("evaluations", record.trials.filter(trial=0)).collect()) == 3
    for of in (record.trials.filter(trial=2), record.trials, None):
        with pytest.raises(RecordError, match=path.name):
            read(tmp_path).scan("evaluations", of)


@pytest.mark.parametrize("name", ["study.json", "records/committed.json"])
def test_a_flipped_bit_of_a_json_file_is_one_line_or_changes_nothing(tmp_path, name):
    path = written(tmp_path) / name
    whole, expected, rng, same = path.read_bytes(), load(tmp_path), random.Random(2), 0
    for _ in range(FLIPS):
        data = bytearray(whole)
        data[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        try:
            found = load(tmp_path)
        except RecordError as error:
            assert path.name in str(error) and "\n" not in str(error)
        else:
            same += 1
            assert found[0] == expected[0]
    assert same < FLIPS / 20  # e.g. the letter e of an exponent


@pytest.mark.parametrize(
    "name",
    ["records/trials-000001.parquet", "records/trials-000002.parquet",
     "records/evaluations-000002.parquet", "records/norms-000001.parquet",
     "records/committed.json"],
)  # fmt: skip
def test_a_missing_file_is_named(tmp_path, name):
    (written(tmp_path) / name).unlink()
    assert Path(name).name in refusal(tmp_path)


def test_a_record_without_its_only_committing_part_is_refused(tmp_path):
    (written(tmp_path, commits=1) / "records/trials-000001.parquet").unlink()
    assert "trials-000001.parquet is missing" in refusal(tmp_path)
    shutil.rmtree(tmp_path / "records")
    assert "committed.json is missing" in refusal(tmp_path)


def test_parts_of_another_study_are_refused(tmp_path):
    other = written(tmp_path / "other", "another")
    for tables in (["evaluations"], ["trials"], ["evaluations", "norms", "trials"]):
        folder = written(tmp_path / "-".join(tables))
        for table in tables:
            name = f"records/{table}-000001.parquet"
            shutil.copy(other / name, folder / name)
        first = "trials" if "trials" in tables else tables[0]
        assert f"{first}-000001.parquet is of another study" in refusal(folder)


def test_a_part_of_another_group_is_refused(tmp_path):
    records = written(tmp_path) / "records"
    shutil.copy(records / "evaluations-000001.parquet", records / "evaluations-000002.parquet")
    assert "evaluations-000002.parquet is damaged (it is evaluations of group 1" in refusal(
        tmp_path
    )


def test_a_part_of_a_twin_record_is_refused(tmp_path):
    folder, twin = written(tmp_path / "r"), tmp_path / "twin"
    with Writer.open(twin, study()) as writer:
        writer.commit([result(3)])
    name = "records/evaluations-000001.parquet"
    shutil.copy(twin / name, folder / name)
    assert "not the one its group was committed with" in refusal(folder)


def test_the_study_file_of_another_study_is_refused(tmp_path):
    folder, other = written(tmp_path / "r"), written(tmp_path / "other", "another")
    shutil.copy(other / "study.json", folder / "study.json")
    with pytest.raises(RecordError, match="is of another study than the study.json beside it"):
        load(folder)


def test_an_edited_study_file_is_refused(tmp_path):
    path = written(tmp_path) / "study.json"
    path.write_text(path.read_text().replace('"trials": 4', '"trials": 5'))
    assert "study.json was damaged or edited" in refusal(tmp_path)


@pytest.mark.parametrize("field", ["study", "identity", "plans"])
def test_an_old_study_file_without_a_field_is_refused_by_its_name(tmp_path, field):
    content = {"schema_version": 1, "study": {}, "identity": "", "plans": []}
    del content[field]
    (tmp_path / "study.json").write_text(json.dumps(content))
    with pytest.raises(RecordError, match=rf"study\.json lacks the field '{field}'"):
        read_study(tmp_path)


def test_a_complete_trial_without_measurements_is_refused(tmp_path):
    trial = result(0).trial
    with (
        Writer.open(tmp_path, study()) as writer,
        pytest.raises(RecordError, match="COMPLETE and holds no measurement"),
    ):
        writer.commit([TrialResult(trial, Status.COMPLETE, 3, {"step": np.array([])})])


# Interruptions: an exception out of any system call that changes the disk, after it took effect and
# before anything was noted of it. (Before its effect is after the call before.)


class Interrupt(BaseException):
    """As KeyboardInterrupt, which pytest would take for its own."""


class Interrupter:
    """Raises `Interrupt` at the n-th call that changes the disk, once it took effect."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left = -1
        for module, name in ((files.os, "replace"), (Path, "unlink")):
            monkeypatch.setattr(module, name, self._interrupting(getattr(module, name)))
        # Interrupted, and otherwise left out: most of the time would be spent in it.
        monkeypatch.setattr(files.os, "fsync", self._interrupting(lambda descriptor: None))

    def _interrupting(self, call):
        def changed(*args, **kwargs):
            self.left -= 1
            done = call(*args, **kwargs)
            if self.left == 0:
                raise Interrupt
            return done

        return changed


def commits(writer: Writer, first: int, last: int) -> None:
    for index in range(first, last):
        writer.commit([result(index, Status.INCOMPLETE if index == 1 else Status.COMPLETE)])


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    with Writer.open(folder, study()) as writer:
        commits(writer, 0, 6)
        writer.commit([result(1)])
    return load(folder)


def test_an_interruption_at_any_change_of_the_disk_loses_nothing(
    tmp_path, monkeypatch, undisturbed
):
    """The same writer goes on (as a closing commit does); at times another process does too."""
    monkeypatch.setattr(compaction, "MOST_SMALL_GROUPS", 2)
    interrupter = Interrupter(monkeypatch)
    for call in range(1, 60):
        folder = tmp_path / str(call)
        writer = Writer.open(folder, study())
        commits(writer, 0, 2)
        interrupter.left = call
        done = 2
        try:
            for index in range(2, 6):
                commits(writer, index, index + 1)
                done = index + 1
            interrupter.left = -1
            break  # no call was left to interrupt
        except Interrupt:
            held = set(read(folder).trials["trial"])
            assert held in (set(range(done)), set(range(done + 1)))
        copy = shutil.copytree(folder, tmp_path / f"{call}-copy") if call % 3 == 0 else None
        commits(writer, done, 6)
        writer.commit([result(1)])
        writer.close()
        if copy:
            with Writer.open(copy, study()) as other:
                assert {key[2] for key in other.recorded()} == held
                commits(other, done, 6)
                other.commit([result(1)])
        for found in map(load, filter(None, (folder, copy))):
            for table, expected in zip(found[1:], undisturbed[1:], strict=True):
                assert_frame_equal(table, expected)
    assert call > 20, "several commits and compactions were interrupted at every call"


def test_compaction_spares_a_group_whose_bookkeeping_was_interrupted(tmp_path, monkeypatch):
    """Between the rename that commits group 3 and the writer's own list of groups."""
    monkeypatch.setattr(compaction, "MOST_SMALL_GROUPS", 2)
    writer = Writer.open(tmp_path, study())
    for index in range(2):
        writer.commit([result(index)])
    with monkeypatch.context() as patch:

        def interrupted(self, number):
            raise Interrupt

        patch.setattr(groups.RecordsFolder, "write_newest", interrupted)
        with pytest.raises(Interrupt):
            writer.commit([result(2)])
    writer.commit([result(3)])  # compacts
    writer.close()
    assert read(tmp_path).trials["trial"].to_list() == [0, 1, 2, 3]
