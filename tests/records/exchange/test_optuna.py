"""A record as Optuna reads it: statuses, values, curves, ranges and directions are right."""

from __future__ import annotations

import math

import optuna
import polars as pl
import pytest
from sqlalchemy.pool import NullPool
from support.records_factory import make_record, make_study, store

from experiments.cli import main
from experiments.records.store import read
from experiments.runner.search import search
from experiments.spec.conditions import When
from experiments.spec.space import Choice, Integer, Real, ZeroOrLog

STATES = optuna.trial.TrialState


def exported(folder, out, capsys):
    """Optuna study's name -> study, of what the command wrote."""
    assert main(["export", str(folder), "--to", "optuna", str(out)]) == 0
    assert capsys.readouterr().out == f"written: {out}\n"
    storage = optuna.storages.RDBStorage(f"sqlite:///{out}", engine_kwargs={"poolclass": NullPool})
    names = [found.study_name for found in optuna.get_all_study_summaries(storage)]
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


def test_every_search_of_a_study_is_one_of_optunas(tmp_path, capsys):
    study = make_study((4, 64), trials=6, seeds=(0, 3))
    folder = tmp_path / "record"
    store(folder, make_record(study))
    found = exported(folder, tmp_path / "study.db", capsys)
    assert sorted(found) == sorted(
        f"synthetic, batch size {b}, seed {s}" for b in (4, 64) for s in (0, 3)
    )
    record = read(folder)
    for name, one in found.items():
        batch_size, seed = (int(part.split()[-1]) for part in name.split(", ")[1:])
        rows = record.trials.filter(batch_size=batch_size, seed=seed)
        assert one.direction == optuna.study.StudyDirection.MINIMIZE
        assert [trial.number for trial in one.trials] == rows["trial"].to_list()
        for trial, row in zip(one.trials, rows.iter_rows(named=True), strict=True):
            key = {k: row[k] for k in ("batch_size", "seed", "trial")}
            curve = record.evaluations.filter(**key)
            values = curve["validation/classification_error"]
            assert trial.intermediate_values == dict(zip(curve["step"], values, strict=True))
            complete = row["status"] == "COMPLETE"
            assert trial.state == (STATES.COMPLETE if complete else STATES.FAIL)
            assert trial.value == (values.min() if complete else None)
            assert trial.params == {n: row[n] for n in ("learning_rate", "momentum")}
            assert trial.user_attrs["status"] == row["status"]
        rate = one.trials[0].distributions["learning_rate"]
        assert rate == optuna.distributions.FloatDistribution(1e-4, 10.0, log=True)
        momentum = one.trials[0].distributions["momentum"]
        assert momentum == optuna.distributions.FloatDistribution(0.5, 0.999)
    assert main(["export", str(folder), "--to", "optuna", str(tmp_path / "study.db")]) == 2
    assert "already exists: choose another" in capsys.readouterr().err


def test_a_search_of_ones_own_is_one_study_with_its_conditions(tmp_path, capsys):
    space = {
        "rate": Real(1e-3, 1.0, "log"),
        "units": Integer(16, 64, step=16),
        "decay": ZeroOrLog(1e-5, 1e-2),
        "kind": Choice(("a", "b", True)),
        "extra": When("kind", "a", Real(0.0, 1.0)),
        "batch_size": Choice((8, 16)),
    }

    def objective(hyperparameters, budget, report):
        for unit in range(1, budget + 1):
            value = math.nan if hyperparameters["rate"] > 0.5 else hyperparameters["rate"] * unit
            if not report(unit, value):
                return

    made = search(
        space, objective=objective, trials=17, budget=9, pruner="hyperband", direction="max",
        metric="accuracy", folder=tmp_path / "record", show=False, name="mine",
    )  # fmt: skip
    ((name, found),) = exported(made.folder, tmp_path / "mine.db", capsys).items()
    assert name == "mine" and found.direction == optuna.study.StudyDirection.MAXIMIZE
    assert found.best_value == made.value and found.best_params == dict(made.best)
    kinds = {"COMPLETE": STATES.COMPLETE, "INFEASIBLE": STATES.FAIL, "STOPPED": STATES.PRUNED}
    for trial, row in zip(found.trials, made.table.iter_rows(named=True), strict=True):
        assert trial.state == kinds[row["status"]]
        assert trial.value == row["value"]
        assert trial.params == made.searched.hyperparameters(row)
        curve = made.searched.curves.filter(pl.col("trial") == row["trial"])
        assert list(trial.intermediate_values.values()) == curve["value"].to_list()
        assert trial.user_attrs["proposed by"] == "quasi-random"
    assert {trial.state for trial in found.trials} == {*kinds.values()}
    ranges = {k: v for trial in found.trials for k, v in trial.distributions.items()}
    assert ranges["units"] == optuna.distributions.IntDistribution(16, 64, step=16)
    assert ranges["decay"] == optuna.distributions.FloatDistribution(0.0, 1e-2)
    assert ranges["kind"].choices == ("a", "b", True)


def test_a_file_that_cannot_be_written_is_refused_in_one_line(tmp_path, capsys):
    store(tmp_path / "record", make_record(make_study((4,), trials=2)))
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "study.db"
    assert main(["export", str(tmp_path / "record"), "--to", "optuna", str(out)]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    with pytest.raises(SystemExit):
        main(["export", str(tmp_path / "record"), "--to", "optunas", str(out)])
