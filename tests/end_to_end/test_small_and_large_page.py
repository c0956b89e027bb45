"""docs/small_and_large.md: its numbers, and that they are the records'."""

from __future__ import annotations

import json
import statistics

import numpy as np
import polars as pl
import pytest
from scipy.stats import spearmanr
from support.records_factory import make_record, make_study, store
from support.tolerances import FLOAT64_SUMS

from benchmarks import small_and_large
from benchmarks.small_and_large import equal_noise, protocols, rank_correlation
from benchmarks.small_and_large_page import PAGE, page, percent
from experiments import studies
from experiments.analysis.view import View


def test_the_page_is_that_of_the_recorded_numbers():
    held = json.loads(small_and_large.FILE.read_text())["studies"]
    assert PAGE.read_text(encoding="utf-8") == page(held)
    assert set(held) <= set(studies.STUDIES)


def test_protocols_are_those_of_loops_over_evaluations():
    study = make_study((16, 64), trials=4, seeds=(0, 1), epochs=2, step_budget=100)
    view = View(make_record(study))
    rows = view.measurements().collect().to_dicts()
    complete = {tuple(row) for row in view.record.trials.filter(status="COMPLETE")
                .select("batch_size", "seed", "trial").rows()}  # fmt: skip

    def best(seed, batch_size, within, trial=None):
        values = {}
        for row in rows:
            key = (row["batch_size"], row["seed"], row["trial"])
            if key in complete and key[:2] == (batch_size, seed) and within(row):
                values[key[2]] = min(row["value"], values.get(key[2], np.inf))
        return values if trial is None else values.get(trial)

    tried = {tuple(row) for row in view.record.trials.select("batch_size", "seed", "trial").rows()}
    started = [{k for k in range(16) if {(16, seed, k), (64, seed, k)} <= tried} for seed in (0, 1)]
    limits = {"equal epochs": lambda row: row["examples"] <= 2048,
              "equal steps": lambda row: row["step"] <= 100}  # fmt: skip
    for found in protocols(view):
        within, size = limits[found["protocol"]], found["batch_size"]
        own = [min(best(seed, size, within).values()) for seed in (0, 1)]
        assert found["retuned"]["median"] == statistics.median(own)
        assert (found["retuned"]["low"], found["retuned"]["high"]) == (min(own), max(own))
        if found["not_retuned"] is not None:
            small = [best(seed, 16, within) for seed in (0, 1)]
            firsts = [
                min((k for k in values if k in started[seed]), key=lambda k: (values[k], k))
                for seed, values in enumerate(small)
            ]
            same = [best(seed, size, within, k) for seed, k in zip((0, 1), firsts, strict=True)]
            assert found["not_retuned"]["median"] == statistics.median(same)


def test_a_rank_correlation_is_spearmans_and_its_interval_holds_it():
    random = np.random.default_rng(0)
    x = random.normal(size=20)
    y = x + random.normal(size=20)
    found = rank_correlation(x, y)
    assert found["rho"] == pytest.approx(float(spearmanr(x, y).statistic), rel=FLOAT64_SUMS)
    assert found["low"] < found["rho"] < found["high"] and found["low"] > 0
    apart = rank_correlation(x, random.normal(size=20))
    assert apart["low"] < 0 < apart["high"]


def test_pairs_of_equal_noise_scale_are_trials_of_one_index_and_search(tmp_path):
    labels = ("momentum=0", "momentum=0.9")
    for seed, label in enumerate(labels):
        study = make_study((8, 32), trials=3, seeds=(0, 1), epochs=1, step_budget=1)
        store(tmp_path / label, make_record(study, seed=seed))
    (tmp_path / "comparison.json").write_text(json.dumps({"name": "x", "studies": labels}))
    finals = {}
    for label in labels:
        view = View(small_and_large.read(tmp_path / label))
        last = view.measurements().collect().sort("step").group_by("batch_size", "seed", "trial")
        ends = last.agg(pl.col("value").last())
        done = view.record.trials.filter(status="COMPLETE")
        finals[label] = {
            row[:3]: row[3] for row in ends.join(done, on=["batch_size", "seed", "trial"])
            .select("batch_size", "seed", "trial", "value").rows()
        }  # fmt: skip
    for row in equal_noise(tmp_path)["rows"]:
        pairs = [
            value - finals[labels[0]][8, seed, trial]
            for (size, seed, trial), value in finals[row["member"]].items()
            if size == row["batch_size"] and (8, seed, trial) in finals[labels[0]]
        ]
        assert row["pairs"] == len(pairs)
        assert row["mean"] == pytest.approx(np.mean(pairs), abs=FLOAT64_SUMS)
        assert row["low"] <= row["mean"] <= row["high"]


def test_a_percentage_of_one_search_has_no_range():
    assert percent({"median": 0.026, "low": 0.026, "high": 0.026}) == "2.6%"
    assert percent({"median": 0.026, "low": 0.02, "high": 0.03}) == "2.6% (2.0 to 3.0)"
    assert percent(None) == "-"
