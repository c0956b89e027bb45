"""The search benchmarks measure what they say."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from support.tolerances import three_errors

from benchmarks import inclusion, many_trials, pruner_tables, samplers_page
from benchmarks.search import LENGTH, SimulatedSearches, optimum
from benchmarks.search_tables import (
    BATCH_SIZES,
    RATES,
    PlainUnpickler,
    best_rates,
    exponent,
    exponents,
)
from experiments.search.rounds import RoundProgress
from experiments.search.samplers.table import sampler

SIZES = (4**7, 4**8)


def test_the_optimum_of_a_large_batch_is_the_one_known():
    """Close to the limit of ever larger batches, 178 steps at 4^10."""
    steps, rate, momentum = optimum(4**8)
    assert 185 <= steps <= 189
    assert 2.5 < rate < 3
    assert 0.95 < momentum < 0.98


@pytest.fixture(scope="module")
def halton():
    """Quasi-random searches of one seed, in full and raced."""
    return {
        stop: SimulatedSearches(
            sampler("halton"), (3,), 18, adaptive=False, stopping=stop, batch_sizes=SIZES
        ).run()
        for stop in ("never", "goal", "race")
    }


def test_stopping_at_the_goal_and_racing_find_the_same_steps_with_fewer_made(halton):
    """Points of a quasi-random search do not depend on results, so the curve is the same."""
    full = halton["never"].excess()
    np.testing.assert_array_equal(halton["goal"].excess(), full)
    np.testing.assert_array_equal(halton["race"].excess(), full)
    steps = [halton[stop].summary()["optima_of_steps"] for stop in ("never", "goal", "race")]
    assert steps[0] > steps[1] > steps[2]
    assert steps[0] <= 18 * LENGTH


def test_a_raced_search_is_told_only_what_its_trials_showed(halton):
    raced = {(t.batch_size, t.index): t for t in halton["race"].seen[3]}
    for trial in halton["never"].seen[3]:
        seen = raced[trial.batch_size, trial.index]
        assert seen.point == trial.point
        if seen.outcome == "reached":
            assert trial == seen
        elif seen.outcome == "censored" and trial.outcome == "reached":
            assert seen.value < trial.value


def test_a_table_with_a_class_in_it_is_refused():
    plain = {"0": {"val_acc": [0.5, 0.25]}}
    assert PlainUnpickler(io.BytesIO(pickle.dumps(plain))).load() == plain
    with pytest.raises(pickle.UnpicklingError, match=r"rounds\.RoundProgress"):
        PlainUnpickler(io.BytesIO(pickle.dumps(RoundProgress()))).load()


def test_the_exponent_is_that_of_a_planted_rule():
    sizes = np.array(BATCH_SIZES, float)
    assert exponent(0.01 * sizes**0.5) == pytest.approx(0.5)
    assert exponent(3e-4 * sizes) == pytest.approx(1.0)


def test_best_rates_of_real_perceptrons_grow_by_the_square_root_rule_and_not_the_linear_one():
    """HPOBench's are trained by Adam; the interval is over eight data sets."""
    found = exponents()
    low, high = (found["mean"] + side * found["half_width_95"] for side in (-1, 1))
    assert 0.4 < low <= 0.5 <= high < 0.7
    rates = best_rates("phoneme")
    assert np.all((RATES[0] < rates) & (rates < RATES[-1]))
    assert rates[-1] > 5 * rates[0]


def test_the_tables_of_the_page_are_those_of_the_results():
    assert samplers_page.PAGE.read_text() == samplers_page.page(samplers_page.PAGE.read_text())


def test_a_sampler_is_better_where_its_interval_says_so():
    pairs = {"a": (-0.3, 0.1), "b": (-0.1, 0.2), "c": (0.3, 0.2)}
    regret = {
        name: {"x": {"minus_halton": {"mean": mean, "half_width_95": half}}}
        for name, (mean, half) in pairs.items()
    }
    said = samplers_page._said("x", regret)
    assert "on 1 of 3 data sets and is worse on 1; the interval of the others" in said


def test_the_chance_that_equal_rules_stay_below_the_bar_is_that_of_drawn_searches():
    """Log2 of steps, normal: 20,000 times six pairs; three standard errors of the share."""
    ours, theirs = 0.2, 0.3
    generator = np.random.default_rng(0)
    general = generator.normal(0, ours, (20_000, 6))
    special = generator.normal(0, theirs, (20_000, 6))
    below = (2 ** (general - special) <= inclusion.BAR).all(axis=1).mean()
    expected = inclusion.chance(ours, theirs, 6)
    assert below == pytest.approx(expected, abs=three_errors(expected, 20_000))


def planted(curves):
    """A table of 90 points whose curves never cross: point 89 is the best."""
    levels = np.arange(90.0)[::-1, None]
    return pruner_tables.TableReplay(
        levels + 1 / np.arange(1, 10), levels[:, 0], -1.0, 81, 3, curves
    )


@pytest.mark.parametrize("curves", [True, False])
@pytest.mark.parametrize(
    ("name", "begun"),
    [("none", 9), ("one", 81), ("successive_halving", 35), ("hyperband", 17), ("asha", 18)],
)
def test_a_replayed_pruner_keeps_to_its_budget_and_finds_the_best_that_it_began(
    name, begun, curves
):
    replay = planted(curves)
    trials = replay.most(name)
    spent, regret = replay.run(name, trials)
    assert spent <= replay.budget < replay.run(name, trials + 1)[0]
    assert regret == 91 - begun


def test_halving_spends_on_its_rungs_and_a_mean_over_seeds_takes_the_place_of_a_smaller_one():
    """27 trials at one resource, nine of them at three, three of those at nine."""
    assert planted(curves=False).run("successive_halving", 27)[0] == 27 + 9 * 2 + 3 * 6
    replay = pruner_tables.of_perceptrons("car", 7)
    assert np.isnan(replay.shown(0, 3)[:2]).all() and replay.shown(0, 3)[2] == replay.values[0, 2]


def test_a_tiny_study_costs_what_the_benchmark_says_it_does():
    """All trials are counted, from the first that ended to the record's end."""
    row = many_trials.function_way(25)
    assert row["trials"] == 25 and row["per_trial_ms"] > 0
    assert many_trials.loss(0.0, 0.9, 3) == many_trials.loss(0.0, 0.5, 3) > 0
