"""Comparisons: ratios that cover, profiles by the definition, orders along the tuning, powers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from support.laws import on_grid
from support.records_factory import Truth, describe, handmade, make_record, make_study

from experiments.analysis.compare import check_comparable, compared_of
from experiments.analysis.intervals import NO_ANSWER, Answer
from experiments.analysis.paired import _row, paired_ratios, point_ratio, ratio
from experiments.analysis.power_laws import exponent, power_laws, value_of
from experiments.analysis.profiles import (
    MOST,
    profile,
    profile_table,
    rank_stability,
    ratios_to_best,
    score,
    score_table,
)
from experiments.analysis.summary import summarise
from experiments.report.comparing import comparing_figures, told_words
from experiments.report.comparison import comparison_page, joint_table
from experiments.report.comparison_figures import comparison_figures
from experiments.report.power_laws import QUANTITIES, power_law_page

SUMMED = 1 / 3_000
"""The sum's steps: a profile rises anywhere within one of them."""
OF_THE_LAW = 0.4
"""The luck of six searches of a few trials each, at both ends of a ratio."""

REPEATS = 500
SEEDS = (0, 1, 2, 3, 4, 5)
SIZES = (4, 16, 64)
NEVER = Answer(100.0, math.inf)


def test_a_ratio_of_intervals_holds_every_ratio_of_their_points():
    found = ratio(Answer(90, 100), Answer(40, 50))
    assert found == (90 / 50, 100 / 40) and point_ratio(Answer(90, 100), Answer(40, 50)) == 2
    assert ratio(NEVER, Answer(40, 50)) == (2.0, math.inf)
    assert ratio(Answer(40, 50), NEVER) == (0.0, 0.5)
    assert ratio(NEVER, NEVER) == NO_ANSWER
    assert point_ratio(NEVER, Answer(40, 50)) == math.inf
    assert point_ratio(Answer(40, 50), NEVER) == 0 and point_ratio(NEVER, NEVER) is None


def simulated(true, repeats, generator):
    """Pairs of six searches on the grid whose median ratio is ``true``, seeds in common."""
    common = generator.normal(math.log(300), 0.5, (repeats, 6))
    own = generator.normal(0, 0.2, (2, repeats, 6))
    one, other = np.exp(common + own[0]) * true, np.exp(common + own[1])
    return [on_grid(steps) for steps in (one, other)]


@pytest.mark.parametrize("true", [1.0, 1.3, 0.5])
def test_the_interval_of_a_ratio_covers_the_median_ratio(true):
    one, other = simulated(true, REPEATS, np.random.default_rng(0))
    held = told = 0
    for r in range(REPEATS):
        pairs = [
            (Answer(one[0][r, s], one[1][r, s]), Answer(other[0][r, s], other[1][r, s]))
            for s in range(6)
        ]
        _, _, low, high, coverage, different, _ = _row(pairs)
        assert coverage == 1 - 2**-5
        held += low <= true <= high
        told += different
    assert held / REPEATS >= 0.95
    if true == 1.0:
        assert told / REPEATS <= 0.05
    if true == 0.5:
        assert told / REPEATS > 0.9


def test_pairing_tells_what_separate_ranges_do_not():
    """Seeds that are slow for both cancel in the ratio."""
    one, other = simulated(1.6, REPEATS, np.random.default_rng(1))
    paired = apart = 0
    for r in range(REPEATS):
        pairs = [
            (Answer(one[0][r, s], one[1][r, s]), Answer(other[0][r, s], other[1][r, s]))
            for s in range(6)
        ]
        paired += _row(pairs)[5]
        apart += one[0][r].min() > other[1][r].max()
    assert paired > 2 * apart and paired / REPEATS > 0.4


def test_below_the_stated_factor_nothing_is_seen():
    """Moved to a ratio nearer to 1 than x, the same searches' range holds 1."""
    pairs = [(Answer(100 * f, 102 * f), Answer(100, 102)) for f in (1.5, 1.8, 2.0, 2.2, 2.9, 3.0)]
    _, median, low, high, _, told, unseen = _row(pairs)
    assert told and unseen == pytest.approx(min(high / median, median / low))
    for nearer in (0.99, 0.5, -0.5, -0.99):
        shift = unseen**nearer / median
        moved = [(Answer(a.low * shift, a.high * shift), b) for a, b in pairs]
        _, _, low, high, _, told, _ = _row(moved)
        assert not told
    beyond = 1.01 * (median / low) / median
    assert _row([(Answer(a.low * beyond, a.high * beyond), b) for a, b in pairs])[5]


def twin_score(ratios, most):
    """The area under the profile by a fine sum, as its definition has it."""
    taus = np.linspace(1, most, 3_001)
    return [
        np.mean([np.mean(np.asarray(row) <= tau) for tau in taus[:-1]]) for row in ratios
    ]  # fmt: skip


def test_profile_and_score_are_those_of_the_definition():
    times = np.array([[10.0, 20.0, np.inf, np.inf], [15.0, 10.0, 40.0, np.inf]])
    found = ratios_to_best(times)
    assert found.tolist() == [[1, 2, math.inf, math.inf], [1.5, 1, 1, math.inf]]
    assert profile(found, 1.0).tolist() == [0.25, 0.5]
    assert profile(found, 2.0).tolist() == [0.5, 0.75]
    np.testing.assert_allclose(score(found), twin_score(found, MOST), atol=SUMMED)
    # Always fastest: 1. Never within a factor of four: 0.
    assert score(np.array([[1.0, 1.0], [5.0, np.inf]])).tolist() == [1.0, 0.0]


@pytest.fixture(scope="module")
def members():
    """Three made-up optimizers: one twice as fast, one that is slow but at the largest size."""
    study = make_study(SIZES, trials=8, seeds=SEEDS, sampler="random", epochs=16)
    laws = {
        "fast": Truth(least_steps=30.0, critical=64.0, diverges_above=1e9),
        "slow": Truth(least_steps=60.0, critical=64.0, diverges_above=1e9),
        "late": Truth(least_steps=20.0, critical=200.0, diverges_above=1e9),
    }
    return {
        label: summarise(make_record(study, truth, seed=at))
        for at, (label, truth) in enumerate(laws.items())
    }


def test_paired_ratios_of_made_up_optimizers_are_those_of_their_laws(members):
    table = paired_ratios(members, "fast")
    assert set(table["label"]) == {"slow", "late"} and set(table["searches"]) == {6}
    slow = table.filter(label="slow")
    assert all(low <= 2 <= high for low, high in slow.select("low", "high").iter_rows())
    late = dict(table.filter(label="late").select("batch_size", "ratio").rows())
    # (1 + 200 / B) 20 over (1 + 64 / B) 30.
    for batch_size, found in late.items():
        expected = 20 * (1 + 200 / batch_size) / (30 * (1 + 64 / batch_size))
        assert found == pytest.approx(expected, rel=OF_THE_LAW)


def test_the_scores_order_them_and_their_ranges_are_those_of_the_searches(members):
    table = score_table(members)
    assert table["label"][0] == "fast" and table["score"][0] > table["score"][1]
    assert set(table["searches"]) == {6} and table["coverage"][0] == 1 - 2**-5
    assert all(low <= high for low, high in table.select("low", "high").iter_rows())
    steps = profile_table(members)
    for label in members:
        shares = steps.filter(label=label)["share"].to_list()
        assert shares == sorted(shares)


def test_the_order_after_all_trials_agrees_with_itself_and_early_ones_less(members):
    table = rank_stability(members)
    last = table.row(-1, named=True)
    assert (last["k"], last["agreement"], last["same_fastest"]) == (8, 1.0, len(SIZES))
    assert table["k"][0] == 1 and table["agreement"][0] <= 1.0


def fewer_begun(members, keep):
    """The members' records, with those trials alone."""
    return {
        label: summarise(dataclasses.replace(found.record, trials=found.record.trials.filter(keep)))
        for label, found in members.items()
    }


def test_searches_that_nobody_has_begun_are_no_misses(members):
    """While a study runs: its last seeds, and its last batch size, have no trial yet."""
    two = {label: members[label] for label in ("fast", "slow")}
    begun = fewer_begun(two, (pl.col("seed") < 4) & (pl.col("batch_size") < 64))
    table = score_table(begun)
    assert set(table["searches"]) == {4} and table["coverage"][0] == 1 - 2**-3
    study = make_study(SIZES[:2], trials=8, seeds=SEEDS[:4], sampler="random", epochs=16)
    described = describe(study)
    alone = {
        label: summarise(dataclasses.replace(found.record, study=described))
        for label, found in begun.items()
    }
    assert table.equals(score_table(alone)) and profile_table(begun).equals(profile_table(alone))
    # One member alone has begun the last seed: it has no score of its own.
    late = {**fewer_begun(two, pl.col("seed") < 5), "slow": two["slow"]}
    assert set(score_table(late)["searches"]) == {5}
    nobody = {**begun, **fewer_begun({"slow": two["slow"]}, pl.col("batch_size") == 64)}
    assert score_table(nobody)["score"].to_list() == [None] * 2
    assert profile_table(nobody).is_empty()
    assert comparing_figures(compared_of(nobody, "c", "?"))


def diverging(seeds_lost):
    """Six searches that get there in 1,000 steps, but those in which every trial diverged."""
    record = handmade({16: [("COMPLETE", {1: 0.9, 1000: 0.05})]}, trials=1, seeds=SEEDS)
    lost = pl.col("seed").is_in(seeds_lost)
    trials = pl.concat([record.trials.with_columns(seed=pl.lit(s, pl.Int64)) for s in SEEDS])
    rows = pl.concat([record.evaluations.with_columns(seed=pl.lit(s, pl.Int64)) for s in SEEDS])
    status = pl.when(lost).then(pl.lit("INFEASIBLE")).otherwise("status")
    return summarise(dataclasses.replace(
        record, trials=trials.with_columns(status=status), evaluations=rows.filter(~lost)
    ))  # fmt: skip


def test_a_search_in_which_every_trial_diverged_never_got_there():
    half, two = diverging((0, 2, 4)), diverging((0, 2))
    compared = compared_of({"half": half, "sound": diverging(())}, "c", "?")
    assert compared.table["steps_to_result"].to_list() == [None, 1000]
    assert dict(compared.scores.select("label", "score").rows()) == {"sound": 1.0, "half": 0.0}
    assert compared.stability["batch_sizes"].to_list() == [1]
    assert compared.stability["agreement"].to_list() == [None]  # one of the two alone got there
    (row,) = paired_ratios({"sound": diverging(()), "two": two}, "sound").iter_rows(named=True)
    assert (row["searches"], row["ratio"], row["told"]) == (6, 1.0, False)
    assert math.isinf(row["high"]) and row["unseen"] is None
    (row,) = paired_ratios(compared.members, "sound").iter_rows(named=True)
    assert row["searches"] == 6 and row["ratio"] is None
    both = compared_of({"sound": diverging(()), "two": two}, "c", "?")
    assert both.table.select("best_value", "best_worst").rows() == [(0.05, 0.05), (0.05, math.inf)]
    assert compared.table["best_value"].to_list() == [None, 0.05]
    assert joint_table(both).rows[1][-3] == "unknown" and comparison_figures(both)
    searches = two.cost.least[0]
    assert searches.searches == 6 and math.isinf(searches.high)


def test_planted_powers_are_found_with_a_range_that_covers():
    assert exponent([1, 2, 4], [3.0, 6.0, 12.0]).high == pytest.approx(1.0)
    assert exponent([1, 2], [3.0, None]) == NO_ANSWER
    assert exponent([1, 2], [3.0, math.inf]) == NO_ANSWER
    made = {}
    for step_budget, critical in ((100, 16.0), (200, 32.0), (400, 64.0)):
        study = make_study((1, 4, 16, 64, 256), trials=6, seeds=SEEDS, sampler="random",
                           step_budget=step_budget, epochs=40)  # fmt: skip
        truth = Truth(critical=critical, diverges_above=1e9)
        made[str(step_budget)] = summarise(make_record(study, truth, seed=step_budget))
    table = power_laws(made, "step_budget")
    noise = table.filter(quantity="noise critical batch size").row(0, named=True)
    assert noise["low"] <= 1.0 <= noise["high"] and noise["searches"] == 6
    assert value_of(made["100"], "goal") == 0.1
    page = power_law_page(made, table, "step_budget")
    (figure,) = page.figures
    assert len(figure.table) == 9 and figure.chart.to_dict()
    assert [name for name, _ in page.facts] == list(QUANTITIES)
    for key, said in (("nothing", "must name a number"), ("trials", "studies that differ in it")):
        with pytest.raises(ValueError, match=said):
            power_laws(made, key)


def test_a_study_whose_batch_grows_has_no_critical_batch_size_to_be_read_of(members):
    grown = make_study(SIZES, trials=2, step_budget=400, batch_size_schedule="seesaw",
                       batch_size_cuts=(100,))  # fmt: skip
    both = {"fast": members["fast"], "grown": summarise(make_record(grown))}
    with pytest.raises(ValueError, match="must be constant .* got 'seesaw' in grown") as raised:
        power_laws(both, "step_budget")
    assert "\n" not in str(raised.value)


def test_the_page_shows_ratios_profiles_and_what_cannot_be_seen(members):
    compared = compared_of(members, "made up", "Who?")
    figures = comparing_figures(compared)
    assert [figure.name for figure in figures] == ["ratios", "profiles", "stability"]
    text = comparison_page(compared, [*comparison_figures(compared), *figures])
    assert "differences below a factor of" in text and "compared in pairs" in text
    assert "Kendall" in text and 'id="table-ratios"' in text and 'id="table-scores"' in text


def test_trials_that_stop_early_are_not_called_complete():
    raced = summarise(handmade({16: [("STOPPED", {9: 0.01})]}, trials=4, stop="goal"))
    compared = compared_of({"one": raced, "other": raced}, "c", "?")
    page = comparison_page(compared, comparison_figures(compared))
    assert "4 trials that count of each" in page and "4 COMPLETE trials" not in page


def test_one_batch_size_and_one_search_are_said_not_to_tell():
    alone = {
        name: summarise(make_record(make_study((16,), trials=4), seed=at))
        for at, name in enumerate(("a", "b"))
    }
    words = " ".join(told_words(compared_of(alone, "c", "?")))
    assert "One batch size, 16, does not say which member is better" in words
    assert "cannot tell a difference from the luck of its trials" in words


def test_unequal_budgets_and_mixed_goals_are_refused(members):
    check_comparable(members)
    for change, field in (({"trials": 4}, "trials"), ({"goal": 0.2}, "goal"),
                          ({"step_budget": 50}, "step_budget")):  # fmt: skip
        study = make_study(SIZES, **{"trials": 8, "seeds": SEEDS, "epochs": 16} | change)
        record = make_record(study)
        with pytest.raises(ValueError, match=f"must agree in {field} to be compared in steps"):
            check_comparable({**members, "other": summarise(record)})
