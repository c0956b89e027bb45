"""The record: what is written is read back, grows, and refuses what does not belong."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from experiments.records import compaction, groups
from experiments.records.schema import OLD_VERSION, SCHEMA_VERSION, TRIAL_COLUMNS
from experiments.records.store import RecordError, Writer, read, read_study
from experiments.spec.trial import Status, Trial, TrialResult

STUDY = {
    "identity": "one",
    "study": {
        "name": "first",
        "trials": 2,
        "seeds": [0],
        "batch_sizes": [4, 1],
        "train_steps": {"1": 9, "4": 3},
    },
    "dataset": {"name": "digits"},
    "hyperparameters": ["momentum", "learning_rate"],
    "environment": {"commit": "a"},
}


def result(batch_size=1, seed=0, index=0, rows=3, status=Status.COMPLETE, **changes) -> TrialResult:
    trial = Trial(
        batch_size,
        seed,
        index,
        rows,
        {"learning_rate": 0.5, "momentum": 0.9},
        f"{batch_size}{index}",
    )
    evaluations = {"step": np.arange(1, rows + 1), "validation/error": np.linspace(1, 0, rows)}
    return TrialResult(**{"trial": trial, "status": status, "steps": rows,
                          "evaluations": evaluations, **changes})  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder: a refusal must change none of it."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def written(folder: Path, *commits: list[TrialResult]) -> Path:
    with Writer.open(folder, STUDY) as writer:
        for results in commits:
            writer.commit(results)
    return folder


# What is written is read.


def test_tables_have_the_documented_columns_types_and_order(tmp_path):
    norms = {
        "step": np.arange(1, 4), "gradient_norm": np.ones(3, np.float32), "update_norm": np.ones(3),
        "parameter_norm": np.ones(3), "learning_rate": np.ones(3),
    }  # fmt: skip
    late = result(4, index=1, norms=norms, seconds=1.5, plan=0)
    record = read(written(tmp_path, [late], [result(1, index=1), result(1, index=0)]))
    assert record.trials.columns == [
        *TRIAL_COLUMNS,
        "reason",
        "race_bound",
        "momentum",
        "learning_rate",
    ]
    assert record.trials.select("batch_size", "seed", "trial").rows() == [
        (1, 0, 0),
        (1, 0, 1),
        (4, 0, 1),
    ]
    assert record.trials["learning_rate"].dtype == pl.Float64
    assert record.evaluations.columns == [
        "batch_size", "seed", "trial", "step", "examples", "validation/error",
    ]  # fmt: skip
    last = record.evaluations.row(-1, named=True)
    assert (last["batch_size"], last["step"], last["examples"]) == (4, 3, 12)
    assert record.norms is not None
    assert record.norms.columns == [
        "batch_size", "seed", "trial", "step", "examples", "gradient_norm", "update_norm",
        "parameter_norm", "learning_rate",
    ]  # fmt: skip
    assert record.norms["gradient_norm"].dtype == pl.Float64
    part = pl.read_parquet_schema(tmp_path / "records/evaluations-000001.parquet")
    assert part["step"] == part["trial"] == pl.Int32 and part["examples"] == pl.Int64
    assert record.evaluations["step"].dtype == record.trials["trial"].dtype == pl.Int64


def test_a_record_without_trials_has_empty_tables(tmp_path):
    record = read(written(tmp_path))
    assert record.trials.height == record.evaluations.height == 0
    assert record.norms is None
    assert record.trials.schema["trial"] == record.evaluations.schema["step"] == pl.Int64
    assert read_study(tmp_path) == record.study
    assert record.study["schema_version"] == SCHEMA_VERSION
    assert record.study["plans"] == []
    assert {name: record.study[name] for name in ("identity", "dataset", "environment")} == {
        name: STUDY[name] for name in ("identity", "dataset", "environment")
    }


def test_a_trial_without_measurements_keeps_its_row_and_message(tmp_path):
    broken = result(status=Status.INCOMPLETE, evaluations={}, steps=0, message="out of memory")
    record = read(
        written(tmp_path, [broken], [result(index=1, status=Status.INFEASIBLE, evaluations={})])
    )
    assert record.trials["message"].to_list() == ["out of memory", ""]
    assert record.evaluations.height == 0


def test_a_column_one_trial_lacks_is_null_and_a_measured_nan_stays_nan(tmp_path):
    other = {"step": np.array([1, 2]), "train/loss": np.array([np.nan, 2.0])}
    record = read(written(tmp_path, [result(rows=1), result(index=1, evaluations=other)]))
    assert record.evaluations["train/loss"].is_null().to_list() == [True, False, False]
    assert record.evaluations["train/loss"].is_nan().to_list() == [None, True, False]
    assert record.evaluations["validation/error"].null_count() == 2


FAILED = [Status.INFEASIBLE, Status.INCOMPLETE]
numbers = st.floats(allow_nan=False, width=64)


@st.composite
def commits(draw):
    """Distinct trials in random groups, in random order, with random measurements."""
    keys = draw(st.lists(st.tuples(st.integers(1, 2**40), st.integers(0, 2**62), st.integers(0, 9)),
                         unique=True, max_size=8))  # fmt: skip
    results = []
    for batch_size, seed, index in keys:
        steps = sorted(draw(st.sets(st.integers(1, 2**20), max_size=4)))
        names = draw(st.sets(st.sampled_from(["validation/error", "train/loss", "gradient_norm"])))
        values = {
            name: np.array(draw(st.lists(numbers, min_size=len(steps), max_size=len(steps))), float)
            for name in sorted(names)
        }
        trial = Trial(batch_size, seed, index, 5, {"learning_rate": draw(numbers)}, draw(st.text()))
        results.append(
            TrialResult(trial, draw(st.sampled_from(list(Status) if steps else FAILED)), 3,
                        {"step": np.array(steps), **values},
                        seconds=draw(numbers), message=draw(st.text()))
        )  # fmt: skip
    cuts = sorted(draw(st.lists(st.integers(0, len(results)), max_size=3)))
    return [results[a:b] for a, b in zip([0, *cuts], [*cuts, len(results)], strict=True)]


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(commits(), st.integers(0, 3))
def test_any_results_in_any_groups_are_read_back(tmp_path, monkeypatch, batches, most_small_groups):
    monkeypatch.setattr(compaction, "MOST_SMALL_GROUPS", most_small_groups)  # compacts at times
    shutil.rmtree(tmp_path / "r", ignore_errors=True)
    record = read(written(tmp_path / "r", *batches))
    results = sorted((r for batch in batches for r in batch), key=lambda r: r.trial.key)
    trials = [(*r.trial.key, r.trial.identity, r.status, r.seconds, r.message,
               r.trial.hyperparameters["learning_rate"]) for r in results]  # fmt: skip
    columns = ["batch_size", "seed", "trial", "identity", "status", "seconds", "message"]
    if results:
        assert record.trials.select(*columns, "learning_rate").rows() == trials
    measured = [
        (*r.trial.key, int(step), {n: float(v[i]) for n, v in r.evaluations.items() if n != "step"})
        for r in results
        for i, step in enumerate(r.evaluations["step"])
    ]
    found = [
        (row.pop("batch_size"), row.pop("seed"), row.pop("trial"), row.pop("step"),
         {n: v for n, v in row.items() if v is not None and n != "examples"})
        for row in record.evaluations.iter_rows(named=True)
    ]  # fmt: skip
    assert found == measured


# It grows.


def test_the_order_of_commits_does_not_show(tmp_path):
    a, b = [result(4), result(1, index=2)], [result(1, index=1, evaluations={"step": np.array([5]),
                                             "train/loss": np.array([1.0])})]  # fmt: skip
    one, two = read(written(tmp_path / "1", a, b)), read(written(tmp_path / "2", b, a))
    assert one.trials.equals(two.trials) and one.evaluations.equals(two.evaluations)
    assert one.evaluations.columns == two.evaluations.columns


def test_recorded_trials_survive_reopening_and_are_not_written_again(tmp_path):
    written(tmp_path, [result(), result(index=1, status=Status.INFEASIBLE)])
    with Writer.open(tmp_path, STUDY) as writer:
        assert writer.recorded() == {
            (1, 0, 0): (Status.COMPLETE, "10"),
            (1, 0, 1): (Status.INFEASIBLE, "11"),
        }
        writer.commit([result(seconds=99.0), result(index=1)])
    record = read(tmp_path)
    assert record.trials["status"].to_list() == ["COMPLETE", "INFEASIBLE"]
    assert record.trials["seconds"].to_list() == [0.0, 0.0]


def test_a_later_group_wins_for_an_incomplete_trial(tmp_path):
    failed = result(rows=5, status=Status.INCOMPLETE, message="lost")
    record = read(written(tmp_path, [failed, result(index=1)], [result(rows=2)]))
    assert record.trials["status"].to_list() == ["COMPLETE", "COMPLETE"]
    assert record.evaluations.filter(trial=0)["step"].to_list() == [1, 2]


def test_a_recorded_trial_of_another_identity_is_refused(tmp_path):
    other = result(trial=Trial(1, 0, 0, 3, {"learning_rate": 0.1}, "other"))
    with Writer.open(tmp_path, STUDY) as writer:
        writer.commit([result()])
        with pytest.raises(RecordError, match=r"\(1, 0, 0\).*identity 10, got other"):
            writer.commit([other])


def test_compaction_keeps_every_row_and_few_files(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "MOST_SMALL_GROUPS", 3)
    norms = {"step": np.arange(3), "gradient_norm": np.arange(3.0)}
    batches = [[result(2, index=0, status=Status.INCOMPLETE)]]
    batches += [[result(1, index=i, norms=norms if i % 2 else None)] for i in range(20)]
    batches += [[result(2, index=0, rows=7)]]
    compacted = read(written(tmp_path / "compacted", *batches))
    assert len(list((tmp_path / "compacted/records").glob("trials-*"))) <= 4
    monkeypatch.setattr(compaction, "MOST_SMALL_GROUPS", 1000)
    plain = read(written(tmp_path / "plain", *batches))
    assert len(list((tmp_path / "plain/records").glob("trials-*"))) == len(batches)
    assert compacted.trials.equals(plain.trials)
    assert compacted.evaluations.equals(plain.evaluations)
    assert compacted.norms is not None and compacted.norms.equals(plain.norms)


def test_a_large_group_is_not_rewritten_and_older_failures_stay_superseded(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "MOST_SMALL_GROUPS", 1)
    with Writer.open(tmp_path, STUDY) as writer:
        writer.commit([result(status=Status.INCOMPLETE, evaluations={})])
        monkeypatch.setattr(compaction, "TIERS", (30_000,))
        writer.commit([result(rows=20_000)])  # the re-run, in a large group between small ones
        large = {p: p.stat().st_mtime_ns for p in tmp_path.glob("records/*-000002.parquet")}
        for index in range(1, 5):
            writer.commit([result(index=index)])
    assert large == {p: p.stat().st_mtime_ns for p in tmp_path.glob("records/*-000002.parquet")}
    assert len(large) == 2
    record = read(tmp_path)
    assert record.trials["status"].to_list() == ["COMPLETE"] * 5
    assert record.evaluations.filter(trial=0).height == 20_000


def test_trials_seeds_batch_sizes_and_environments_grow_and_nothing_shrinks(tmp_path):
    written(tmp_path, [result()])
    asked = {
        "name": "first",
        "trials": 1,
        "seeds": [3],
        "batch_sizes": [8],
        "train_steps": {"8": 2},
    }
    grown = {**STUDY, "study": asked, "environment": {"commit": "b"}}
    with Writer.open(tmp_path, grown) as writer:
        study = writer.study["study"]
    assert (study["trials"], study["seeds"], study["batch_sizes"]) == (2, [0, 3], [1, 4, 8])
    assert study["train_steps"] == {"1": 9, "4": 3, "8": 2}
    recorded = read_study(tmp_path)
    assert recorded["study"] == study
    assert recorded["environment"] == {"commit": "a"}
    assert recorded["environments"] == [{"commit": "a"}, {"commit": "b"}]


def test_opening_the_same_study_again_rewrites_nothing(tmp_path):
    with Writer.open(tmp_path, STUDY) as writer:
        writer.add_plan({"mode": "scan"})
    before = (tmp_path / "study.json").stat().st_mtime_ns
    written(tmp_path)
    assert (tmp_path / "study.json").stat().st_mtime_ns == before


def test_plans_are_appended_once_and_keep_their_index(tmp_path):
    with Writer.open(tmp_path, STUDY) as writer:
        assert writer.add_plan({"mode": "scan", "packs": (1, 8)}) == 0
        assert writer.add_plan({"mode": "loop"}) == 1
    with Writer.open(tmp_path, STUDY) as writer:
        assert writer.add_plan({"mode": "scan", "packs": [1, 8]}) == 0
    assert read_study(tmp_path)["plans"] == [{"mode": "scan", "packs": [1, 8]}, {"mode": "loop"}]


# It refuses.


def refused(folder: Path, study=STUDY, **options) -> str:
    """The one line with which a writer refuses."""
    with pytest.raises(RecordError) as error:
        Writer.open(folder, study, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_another_study_is_refused_by_both_names_and_changes_nothing(tmp_path):
    before = contents(written(tmp_path, [result()]))
    other = {"identity": "two", "study": {"name": "second"}}
    line = refused(tmp_path, other)
    assert "'first'" in line and "'second'" in line and str(tmp_path) in line
    assert contents(tmp_path) == before


def test_no_resume_refuses_a_folder_that_holds_a_record(tmp_path):
    before = contents(written(tmp_path / "r", [result()]))
    assert "already holds a record of study 'first'" in refused(tmp_path / "r", resume=False)
    assert contents(tmp_path / "r") == before
    (tmp_path / "empty").mkdir()
    Writer.open(tmp_path / "empty", STUDY, resume=False).close()


@pytest.mark.parametrize("folder", ["file", "file/below", "/dev/null/x", "/proc/batchscale"])
def test_a_folder_that_cannot_be_written_is_refused(tmp_path, folder):
    (tmp_path / "file").write_text("not a folder")
    line = refused(tmp_path / folder)
    assert f"the folder {tmp_path / folder} cannot be written" in line
    assert contents(tmp_path) == {"file": b"not a folder"}


def test_a_read_only_folder_is_refused_without_a_trace(tmp_path):
    """As another user where this one may write everywhere: permission bits bind not root."""
    written(tmp_path / "r", [result()])
    before = contents(tmp_path / "r")
    (tmp_path / "r").chmod(0o555)
    code = (
        "import os, sys\n"
        "from experiments.records.store import RecordError, Writer\n"
        "import experiments.records.groups, polars\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "try: Writer.open(sys.argv[1], {'identity': 'one'})\n"
        "except RecordError as error: print(error)\n"
    )
    for path in (tmp_path, *tmp_path.parents[:3]):
        if path.owner() == Path.home().owner() and path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o055)
    command = [sys.executable, "-c", code, str(tmp_path / "r")]
    ran = subprocess.run(command, check=True, capture_output=True, text=True)
    (tmp_path / "r").chmod(0o755)
    assert ran.stdout == f"the folder {tmp_path / 'r'} cannot be written (Permission denied)\n"
    assert contents(tmp_path / "r") == before


def test_an_unknown_schema_version_is_refused_by_name(tmp_path):
    written(tmp_path, [result()])
    study = json.loads((tmp_path / "study.json").read_text())
    (tmp_path / "study.json").write_text(json.dumps({**study, "schema_version": 99}))
    before = contents(tmp_path)
    expected = f"schema version 99, which is unknown (known: {OLD_VERSION}, {SCHEMA_VERSION})"
    assert expected in refused(tmp_path)
    with pytest.raises(RecordError) as error:
        read(tmp_path)
    assert expected in str(error.value)
    assert contents(tmp_path) == before


def test_a_part_of_an_unknown_schema_version_is_refused_by_name(tmp_path, monkeypatch):
    with Writer.open(tmp_path, STUDY) as writer:
        monkeypatch.setattr(groups, "SCHEMA_VERSION", 7)
        writer.commit([result()])
    monkeypatch.undo()
    groups.RecordsFolder(tmp_path / "records", "one").write_newest(1)
    with pytest.raises(RecordError, match=r"trials-000001.*version 7, which is unknown"):
        read(tmp_path)


@pytest.mark.parametrize("content", [None, "", "[1]", "{}", "\ud800"])
def test_a_folder_without_our_study_is_refused_in_one_line(tmp_path, content):
    if content is not None:
        (tmp_path / "study.json").write_bytes(content.encode(errors="surrogatepass"))
        refused(tmp_path)
    with pytest.raises(RecordError, match=r"study\.json") as error:
        read(tmp_path)
    assert "\n" not in str(error.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(RecordError, match="nowhere holds no record"):
        read(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("table", "damage"),
    [
        ("evaluations", lambda part: part.unlink()),
        ("evaluations", lambda part: part.write_bytes(part.read_bytes()[:-30])),
        ("trials", lambda part: part.write_bytes(part.read_bytes()[:-30])),
        ("trials", lambda part: part.write_bytes(b"")),
    ],
    ids=["missing", "truncated", "commit truncated", "commit empty"],
)
def test_a_damaged_part_is_named_and_never_skipped(tmp_path, table, damage):
    written(tmp_path, [result()], [result(index=1)])
    part = tmp_path / f"records/{table}-000001.parquet"
    damage(part)
    with pytest.raises(RecordError, match="damaged") as error:
        read(tmp_path).scan("evaluations")
    assert part.name in str(error.value) and "\n" not in str(error.value)


def test_measurements_of_unequal_length_are_refused(tmp_path):
    uneven = {"step": np.arange(3), "validation/error": np.arange(2.0)}
    with Writer.open(tmp_path, STUDY) as writer, pytest.raises(RecordError, match="equally long"):
        writer.commit([result(), result(index=1, evaluations=uneven)])
    assert read(tmp_path).trials.height == 0


def test_a_hyperparameter_called_like_a_column_is_refused(tmp_path):
    trial = Trial(1, 0, 0, 3, {"steps": 0.1}, "x")
    with Writer.open(tmp_path, STUDY) as writer, pytest.raises(RecordError, match="'steps'"):
        writer.commit([result(trial=trial)])


def test_the_record_is_read_without_jax():
    code = (
        "import sys, experiments.records.store as store\n"
        "heavy = {'jax', 'flax', 'optax', 'orbax', 'polars'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_rounds_are_on_disk_and_not_in_the_writers_memory(tmp_path):
    def added(writer, number):
        points = [[number + i / 7, i / 3] for i in range(1000)]  # 200 kB as lists of numbers
        writer.add_round({"seed": 0, "round": number, "batch_sizes": {"1": {"points": points}}})

    with Writer.open(tmp_path, {"identity": "a", "study": {"name": "tiny"}}) as writer:
        added(writer, 0)
        tracemalloc.start()
        try:
            for number in (1, 2, 3):
                added(writer, number)
            gc.collect()
            kept = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert [found["round"] for found in writer.study["rounds"]] == [0, 1, 2, 3]
    assert kept < 20_000
