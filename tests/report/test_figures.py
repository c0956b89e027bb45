"""Figures, files and words for every kind of study, also those that went wrong."""

import dataclasses
import json
import math
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
import vl_convert
from support.records_factory import Truth, handmade, make_record, make_study, store

from experiments.analysis.findings import Unreached
from experiments.analysis.noise_scale import LOST, UNCUT
from experiments.analysis.summary import summarise
from experiments.report import figures
from experiments.report.answer import answer, certainty
from experiments.report.curve_figures import best_of_trials, tuning_curves
from experiments.report.facts import facts
from experiments.report.figure import NOT_SEARCHED, metric_axis
from experiments.report.figures import FIGURES, drawn
from experiments.report.hyperparameter_figures import best_hyperparameters
from experiments.report.noise_figures import noise_figures, noise_table
from experiments.report.search_figures import axis_plots
from experiments.report.write import write_report, write_report_of
from experiments.spec.space import Choice, Real

DONE, DIVERGED = "COMPLETE", "INFEASIBLE"
STOPPED = ("STOPPED", {9: 0.5})
RATE = {"learning_rate": Real(1e-3, 1.0, "log")}


def maximising():
    """A study whose metric is better when larger."""
    record = make_record(make_study((4, 64), trials=4))
    goal = {**record.study["study"]["goal"], "direction": "max", "value": 0.9}
    column = "validation/classification_error"
    return dataclasses.replace(
        record,
        study={**record.study, "study": {**record.study["study"], "goal": goal}},
        evaluations=record.evaluations.with_columns((1 - pl.col(column)).alias(column)),
    )


def unfinished():
    """Planned and nothing run."""
    record = make_record(make_study((4, 64), trials=2))
    return dataclasses.replace(
        record, trials=record.trials.clear(), evaluations=record.evaluations.clear()
    )


STUDIES = {
    "plain": lambda: make_record(make_study((1, 8, 64), trials=6)),
    "two seeds": lambda: make_record(make_study((1, 8, 64), trials=3, seeds=(3, 1))),
    "one batch size": lambda: make_record(make_study((8,), trials=4)),
    "one trial": lambda: make_record(make_study((4, 64), trials=1)),
    "nothing reached": lambda: make_record(make_study((4, 64), trials=3, goal=0.001)),
    "everything infeasible": lambda: make_record(
        make_study((4, 64), trials=2), Truth(diverges_above=0.0)
    ),
    "nothing run": unfinished,
    "no momentum": lambda: make_record(
        make_study((4, 64), trials=3, optimizer="sgd", space=RATE), Truth(largest_rate=0.3)
    ),
    "one searched": lambda: make_record(make_study((4, 64), trials=3, space=RATE)),
    "choice": lambda: make_record(
        make_study((4, 64), trials=3, space={**RATE, "momentum": Choice((0.0, 0.9, 0.99))})
    ),
    "better when larger": maximising,
}


@pytest.mark.parametrize(
    ("trials", "words"),
    [
        ([STOPPED] * 3, "No answer yet: all of the 3 trials were stopped early."),
        (
            [STOPPED, ("INFEASIBLE", {}), STOPPED],
            "No answer yet: of 3 trials 1 diverged and 2 were stopped early; none trained to its",
        ),
        ([("INCOMPLETE", {})] * 2, "No answer yet: all of the 2 trials failed."),
    ],
)
def test_while_none_trained_to_its_end_the_answer_says_how_they_ended(trials, words):
    record = handmade({8: trials}, trials=8, pruner="median", sampler="halton")
    assert words in answer(summarise(record))


def test_trials_that_stopped_at_an_easier_goal_are_said_not_to_answer():
    record = handmade({8: [("STOPPED", {9: 0.09})]}, trials=2, stop="goal", full_searches=0)
    assert "stopped at an easier goal than" in answer(summarise(record, 0.01))


@pytest.mark.parametrize("study", STUDIES)
def test_every_figure_compiles_for_every_kind_of_study(study):
    summary = summarise(STUDIES[study]())
    for draw in FIGURES:
        figure = draw(summary)
        svg = vl_convert.vegalite_to_svg(figure.specification())
        assert svg.startswith("<svg") and "NaN" not in svg and "undefined" not in svg
        assert figure.title and figure.caption
    assert answer(summary).endswith(".")


@pytest.mark.parametrize(
    ("values", "kind"), [((0.0, 0.5), "linear"), ((0.01, 0.5), "log"), ((-1.0, 5.0), "linear")]
)
def test_a_metric_that_reaches_zero_is_not_drawn_on_a_logarithmic_axis(values, kind):
    question = summarise(STUDIES["one trial"]()).question
    axis = metric_axis("value:Q", question, pl.Series(values)).to_dict()
    assert axis["scale"]["type"] == kind


def rows_in(node):
    """Every row of inline data anywhere in a specification."""
    if isinstance(node, dict):
        yield from node.get("values", []) if isinstance(node.get("values"), list) else []
        for child in node.values():
            yield from rows_in(child)
    elif isinstance(node, list):
        for child in node:
            yield from rows_in(child)


def test_points_lie_where_the_table_says():
    summary = summarise(STUDIES["plain"]())
    figure = FIGURES[0](summary)
    rows = list(rows_in(figure.specification()))
    drawn = {
        row["batch_size"]: row["median"]
        for row in rows
        if isinstance(row, dict) and "median" in row
    }
    table = figure.table.select("batch_size", "median").rows()
    assert drawn == dict(table)


def test_answers_are_made_of_the_studys_numbers():
    curves = {b: round(180 * (1 + 20 / b)) for b in (1, 2, 4, 8, 16, 32, 64, 128)}
    record = handmade(
        {b: [(DONE, {1: 0.9, s: 0.05, 20_000: 0.05})] for b, s in curves.items()}, trials=1
    )
    text = answer(summarise(record))
    # S = 180 (1 + 20 / B): 20 % of overhead at 20 / 5, 10 % saved by doubling at 4 x 20
    assert "up to a batch size of about 4 (one search, no range)" in text
    assert "from about 80 on, doubling it saves less than 10% of the steps" in text
    assert "208 at batch size 128, are 18.2 times fewer than at 1, for 7.04 times" in text


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ("nothing run", "No trial is recorded yet."),
        ("everything infeasible", "No answer: all of the 16 trials diverged."),
        ("nothing reached", "No trial reached validation classification error < 0.001"),
        ("one batch size", "steps (", ),
    ],
)  # fmt: skip
def test_answers_of_studies_that_found_none(study, words):
    assert words in answer(summarise(STUDIES[study]()))


@pytest.fixture
def stored(tmp_path):
    record = make_record(make_study((4, 64), trials=3))
    store(tmp_path / "study", record)
    return tmp_path / "study", record


def test_a_report_is_rebuilt_from_the_record_on_disk_alone(stored):
    folder, record = stored
    seen = []
    path = write_report(folder, progress=lambda *at: seen.append(at))
    assert path == folder / "report" / "index.html" and path.read_text().startswith("<!doctype")
    names = {draw(summarise(record)).name for draw in FIGURES}
    for ending, magic in (("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF")):
        found = {p.stem: p.read_bytes() for p in (path.parent / "figures").glob(f"*.{ending}")}
        assert set(found) == names and all(data.startswith(magic) for data in found.values())
    table = pl.read_csv(path.parent / "data" / "steps_to_result.csv")
    wanted = summarise(record).steps
    assert table["steps_to_result"].to_list() == wanted["steps_to_result"].to_list()
    assert {p.stem for p in (path.parent / "data").glob("*.csv")} == {*names, "trials"}
    counted = [done for _, done, _ in seen]
    assert counted == sorted(counted) and seen[-1][1] == seen[-1][2]


def test_a_new_report_takes_the_place_of_the_old_and_an_interrupted_one_leaves_it(
    stored, monkeypatch
):
    monkeypatch.setattr(figures, "FIGURES", FIGURES[:1])  # one is enough here, and quick
    folder, record = stored
    first = write_report_of(record, folder)
    (folder / "report" / "stale.txt").write_text("old")
    before = first.read_text()

    def interrupt(what, done, total):
        if done == total - 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report_of(record, folder, progress=interrupt)
    assert first.read_text() == before and (folder / "report" / "stale.txt").exists()
    write_report_of(record, folder)
    assert not (folder / "report" / "stale.txt").exists()
    assert [p.name for p in folder.iterdir() if p.name.startswith(".report")] == []


def test_a_record_read_back_gives_the_same_numbers(stored):
    from experiments.records.store import read

    folder, record = stored
    for name in ("steps", "budgets", "best"):
        here, there = (getattr(summarise(r), name) for r in (record, read(folder)))
        assert here.columns == there.columns
        for column in here.columns:
            if here[column].dtype.is_float():
                np.testing.assert_array_equal(here[column].to_numpy(), there[column].to_numpy())
            else:
                assert here[column].to_list() == there[column].to_list()


def test_plans_are_told_in_one_line_however_many_batch_sizes_they_cover():
    scan = {"mode": "scan", "slots": 1}
    plan = {"executions": {"1": {"mode": "scan", "slots": 8}, "2": scan, "64": scan},
            "seconds_per_step": {"1": 0.1}, "workers": 2, "record_norms": "off",
            "probe": [{"batch_size": 1}]}  # fmt: skip
    record = make_record(make_study((4, 64), trials=1))
    summary = summarise(dataclasses.replace(record, study={**record.study, "plans": [plan]}))
    assert dict(facts(summary))["Plan"] == (
        "mode scan, slots 8 at batch size 1; mode scan, slots 1 at batch size 2, 64; "
        "workers 2, record norms off"
    )


def test_the_head_of_the_page_names_what_a_result_cannot_be_read_without():
    shown = dict(facts(summarise(make_record(make_study((4, 64), trials=2)))))
    assert "sha256 0123456789ab" in shown["Dataset"] and shown["Commit"] == "0123456789ab"
    assert shown["Goal"] == "validation classification error < 0.1"
    assert shown["Step budget"] == "at most 200 steps"
    assert shown["Epoch budget"] == "10 epochs (10,240 examples)"
    assert shown["Device"] == "simulated CPU" and "jax 0.10.2" in shown["Versions"]
    assert shown["Trials"].startswith("4 COMPLETE (2 planned per batch size), ")
    assert shown["Seeds"] == "0"
    several = facts(summarise(make_record(make_study((4, 64), trials=2, seeds=(0, 1)))))
    planned = "COMPLETE (2 planned per batch size and search), "
    assert any(value.startswith(f"8 {planned}") for _, value in several)


def test_a_range_of_unequal_numbers_of_searches_says_what_each_covers():
    study = make_study((4, 64), trials=2, seeds=tuple(range(6)))
    record = make_record(study)
    kept = (pl.col("batch_size") == 64) | (pl.col("seed") < 2)
    fewer = dataclasses.replace(record, trials=record.trials.filter(kept))
    assert "of 6 searches" in certainty(summarise(record))
    assert certainty(summarise(record)).endswith("with 96.9%")
    said = certainty(summarise(fewer))
    assert "of the searches" in said and said.endswith(
        "50% where there are 2, 96.9% where there are 6"
    )


def test_half_of_the_searches_is_no_minority():
    """The median of two is infinite where one of them is."""
    one = handmade({8: [(DONE, {10: 0.05})]}, trials=1, seeds=(0, 1))
    second = pl.lit(1, dtype=pl.Int64).alias("seed")
    missed = pl.lit(0.5).alias("validation/classification_error")
    record = dataclasses.replace(
        one,
        trials=pl.concat([one.trials, one.trials.with_columns(second)]),
        evaluations=pl.concat([one.evaluations, one.evaluations.with_columns(second, missed)]),
    )
    summary = summarise(record)
    assert answer(summary).startswith("At no batch size did more than half of the searches reach")
    (unreached,) = (f for f in summary.verdict.findings if isinstance(f, Unreached))
    assert unreached.sentence.startswith(
        "Half of the searches or more missed the goal at batch size 8"
    )


def test_report_and_analysis_import_no_jax():
    code = (
        "import sys, experiments.report.write, experiments.report.terminal, "
        "experiments.report.figures, experiments.report.page, experiments.analysis.summary; "
        "found = [m for m in sys.modules if m.split('.')[0] in ('jax', 'flax', 'optax')]; "
        "sys.exit(', '.join(found) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_where_nothing_was_searched_the_figures_say_so():
    """L-BFGS has nothing to tune; its trials differ by their initialisation."""
    study = make_study((4, 64), trials=3, optimizer="lbfgs", space={})
    summary = summarise(make_record(study))
    for draw in (best_hyperparameters, axis_plots):
        assert NOT_SEARCHED in json.dumps(draw(summary).specification())


def with_noise(trace=40.0):
    """A record whose evaluations hold the gradient's noise; batches of four tell no gradient."""
    record = make_record(make_study((1, 4, 64, 256), trials=3, record_noise=True))
    size = pl.col("batch_size").cast(pl.Float64)
    wave = (pl.col("step") % 7 - 3) / 3 * trace / size
    cut = pl.when(size > 1)
    noise = {
        "trace": cut.then(pl.lit(trace)).otherwise(math.nan),
        "squared_norm": cut.then(0.5 + trace / size + wave).otherwise(math.nan),
        "pieces": cut.then(4.0).otherwise(1.0),
        "batch_size": size,
    }
    columns = [value.alias(f"measured/gradient_noise/{name}") for name, value in noise.items()]
    return dataclasses.replace(record, evaluations=record.evaluations.with_columns(columns))


def test_the_noise_scale_is_shown_where_it_was_recorded():
    assert noise_figures(summarise(STUDIES["plain"]())) == []
    summary = summarise(with_noise())
    at_goal, in_training = noise_figures(summary)
    assert [figure.name for figure in drawn(summary)][-2:] == [at_goal.name, in_training.name]
    reasons = dict(at_goal.table.select("batch_size", "reason").rows())
    assert reasons == {1: UNCUT, 4: LOST, 64: "", 256: ""}
    rows = [row for row in rows_in(at_goal.specification()) if isinstance(row, dict)]
    shown = [row for row in rows if row.get("noise_scale")]
    assert {row["batch_size"] for row in shown} == {64, 256}
    assert set(in_training.table["batch_size"]) == {64, 256}
    cells = {row[0]: row for row in noise_table(summary).rows}
    assert cells["1"][1] == "-" and cells["1"][-1] == UNCUT
    assert cells["4"][2].endswith("to no end") and cells["256"][-1] == ""
    for figure in (at_goal, in_training):
        svg = vl_convert.vegalite_to_svg(figure.specification())
        assert "NaN" not in svg and "undefined" not in svg and "Infinity" not in svg


def test_noise_figures_of_a_study_without_an_answer_still_open():
    record = with_noise()
    nothing_held = dataclasses.replace(record, trials=record.trials.clear())
    for source in (nothing_held, with_noise(trace=1e6)):
        summary = summarise(source)
        for figure in noise_figures(summary):
            assert vl_convert.vegalite_to_svg(figure.specification()).startswith("<svg")
        assert noise_table(summary).columns


def test_tuning_curves_have_exact_bands_for_independent_trials_alone():
    fields = {"batch_sizes": (4, 64), "trials": 12, "seeds": (0, 1)}
    for sampler in ("random", "halton"):
        summary = summarise(make_record(make_study(sampler=sampler, **fields)))
        figure = best_of_trials(summary)
        table, bands = figure.table, ["low", "high", "simultaneous_low", "simultaneous_high"]
        assert table["k"].max() == 24  # those of both searches
        if sampler == "halton":
            assert table.select(bands).null_count().row(0) == (len(table),) * 4
            assert "Without bands" in figure.caption
            continue
        assert "exact 95% bands" in figure.caption
        first = table.filter(pl.col("k") == 1)
        assert (first["low"] < first["median"]).all() and (first["median"] < first["high"]).all()
        assert (table["simultaneous_low"] <= table["low"]).all()
        assert (table["high"] <= table["simultaneous_high"]).all()
        svg = vl_convert.vegalite_to_svg(figure.specification())
        assert "NaN" not in svg


def test_of_a_metric_that_is_better_when_larger_the_curve_rises_and_its_bands_are_in_order():
    record = maximising()
    study = {**record.study["study"], "sampler": "random"}
    table = tuning_curves(
        summarise(dataclasses.replace(record, study={**record.study, "study": study}))
    )
    assert (table["low"] <= table["median"]).all() and (table["median"] <= table["high"]).all()
    for rows in table.partition_by("batch_size"):
        assert rows["median"].is_sorted()
