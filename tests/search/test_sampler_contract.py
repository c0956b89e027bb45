"""What every sampler of the table promises; a new one costs a row there and inherits all this."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from support.planted import FINITE, MIXED, SPACE, mixed, search, valley

from experiments.search.samplers.base import Ask
from experiments.search.samplers.distinct import key
from experiments.search.samplers.halton import halton
from experiments.search.samplers.table import SAMPLERS, sampler
from experiments.spec.space import ZeroOrLog
from workloads.registry import UnknownNameError

NAMES = tuple(SAMPLERS)


def run(name, planted=valley, **options):
    return search(sampler(name), planted, adaptive=SAMPLERS[name].adaptive, **options)


@pytest.fixture(scope="module")
def searches():
    """One search of each sampler, shared by the tests that only look at it."""
    return {name: run(name, total=12, batch_sizes=(4, 64)) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_points_are_a_function_of_the_seed_and_of_earlier_results(name, searches):
    """The same again, whatever the order in which the trials of a round ended."""
    again = run(name, total=12, batch_sizes=(4, 64), shuffled=True)
    by_place = {(t.batch_size, t.index): t for t in again.seen}
    assert len(by_place) == len(searches[name].seen)
    for trial in searches[name].seen:
        assert by_place[trial.batch_size, trial.index] == trial


@pytest.mark.parametrize("name", NAMES)
def test_points_lie_in_the_unit_cube_and_none_comes_twice(name, searches):
    points = np.array([trial.point for trial in searches[name].seen])
    assert ((points >= 0) & (points <= 1)).all()
    for batch_size in (4, 64):
        own = [t.point for t in searches[name].seen if t.batch_size == batch_size]
        assert len(set(own)) == len(own) >= 12


@pytest.mark.parametrize("name", NAMES)
def test_another_seed_is_another_search(name, searches):
    other = run(name, total=12, batch_sizes=(4, 64), seed=1)
    rows = min(len(other.seen), len(searches[name].seen))
    same = [a.point == b.point for a, b in zip(other.seen, searches[name].seen, strict=False)]
    assert sum(same) < 0.3 * rows


@pytest.mark.parametrize("name", NAMES)
def test_a_finite_space_ends_when_exhausted_and_says_so(name):
    def planted(batch_size, point):
        return "reached", 10 + sum(point)

    found = run(name, planted, space=FINITE, total=60, batch_sizes=(4,))
    ask = Ask(0, 0, 60, FINITE, {4: 1})
    assert len({key(ask, trial.point) for trial in found.seen}) == len(found.seen) == 9
    assert found.exhausted == {4}


@pytest.mark.parametrize("name", NAMES)
def test_choices_and_whole_numbers_are_searched_too(name):
    found = run(name, mixed, space=MIXED, total=18, batch_sizes=(4, 16))
    for batch_size in (4, 16):
        assert found.best(batch_size) < 200


@pytest.mark.parametrize("name", NAMES)
def test_it_survives_rounds_in_which_nothing_reached_the_goal(name):
    for outcome in ("infeasible", "censored"):
        found = run(
            name,
            lambda b, p, o=outcome: (o, 100.0),
            total=6,
            batch_sizes=(4, 16),
        )
        assert len(found.seen) == (48 if outcome == "infeasible" else 12)  # 4 N, or N, of each


@pytest.fixture(scope="module")
def valley_excess():
    """Mean log2 of steps over the planted optimum's of a sampler, 4 seeds at 3 batch sizes."""

    @functools.cache
    def excess(name):
        runs = [run(name, seed=seed) for seed in range(4)]
        return np.mean([np.log2(r.best(b) / 100) for r in runs for b in (4, 16, 64)])

    return excess


@pytest.mark.parametrize(("name", "share"), [("rounds", 0.25), ("gp", 0.5), ("tpe", 1), ("cma", 1)])
def test_adaptive_samplers_beat_quasi_random_points_in_a_planted_valley(name, share, valley_excess):
    assert valley_excess(name) < share * valley_excess("halton")


def test_two_points_at_the_zero_of_a_range_are_one():
    space = {"weight_decay": ZeroOrLog(1e-6, 1e-2)}
    ask = Ask(0, 0, 6, space, {4: 6})
    assert key(ask, (0.1,)) == key(ask, (0.4,)) != key(ask, (0.6,))
    positions = [point[0] for point in sampler("halton")(ask).points[4]]
    assert sum(position < 0.5 for position in positions) == 1


def test_halton_trial_i_is_point_i_at_every_batch_size():
    found = run("halton", total=12, batch_sizes=(4, 64))
    for batch_size in (4, 64):
        own = [t for t in found.seen if t.batch_size == batch_size]
        expected = halton(0, np.arange(len(own)), 2)
        np.testing.assert_array_equal([t.point for t in own], expected)


def test_a_censored_trial_is_worse_than_its_bound_says():
    """`rounds` goes on to look where trials reached the goal, not where the race ended them."""
    done = run("rounds", total=12, batch_sizes=(4,))
    reached = min(t.value for t in done.seen if t.outcome == "reached")
    raced = [
        dataclasses.replace(t, outcome="censored", value=2 * reached)
        if t.outcome != "infeasible" and t.value > 2 * reached
        else t
        for t in done.seen
    ]
    found = sampler("rounds")(Ask(0, 5, 24, SPACE, {4: 4}, tuple(raced)))
    values = [valley(4, point)[1] for point in found.points[4]]
    assert np.median(values) < 2 * reached


def test_an_unknown_sampler_is_refused_with_those_there_are():
    with pytest.raises(UnknownNameError, match="halton"):
        sampler("sobol")
