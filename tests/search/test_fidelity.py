"""Populations: brackets as printed, decisions that follow from values alone, in any order."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from support.records_factory import make_study

from experiments.search.asynchronous import Asynchronous, asynchronous_halving
from experiments.search.extrapolation import BELOW
from experiments.search.fidelity import PRUNERS, WORKERS, Populations, Pruner, table
from experiments.search.pruned import Curves, PrunedTrials
from experiments.search.record import Ended
from experiments.spec import fields
from experiments.spec.conditions import ConditionalSpace, When
from experiments.spec.space import Choice, Integer, Real
from experiments.spec.study import Study
from experiments.spec.trial import Status, TrialResult


def sizes(resource, eta, rounding="paper"):
    pruner = Pruner("hyperband", resource, eta, rounding=rounding)
    return pruner.sizes(pruner.round_of_brackets)


def test_the_brackets_are_those_that_were_published():
    assert sizes(243, 3) == [243, 98, 41, 18, 9, 6]
    assert sizes(1000, 10) == [1000, 134, 20, 4]
    assert sizes(81, 3) == [81, 34, 15, 8, 5]
    assert sizes(81, 3, "floor_first") == [81, 27, 9, 6, 5]
    assert table(Pruner("hyperband", 10, 3), 17) == [
        (0, 9, "9 @ 1, 3 @ 3, 1 @ 10"),
        (1, 5, "5 @ 3, 1 @ 10"),
        (2, 3, "3 @ 10"),
    ]


def test_whole_brackets_as_long_as_they_fit_and_a_larger_search_begins_like_a_smaller_one():
    pruner = Pruner("hyperband", 9, 3)
    assert pruner.sizes(8) == [] and pruner.sizes(9) == [9] and pruner.sizes(16) == [9, 5]
    assert pruner.sizes(40) == [9, 5, 3, 9, 5, 3]
    for trials in range(60):
        assert pruner.sizes(trials) == pruner.sizes(60)[: len(pruner.sizes(trials))]
    with pytest.raises(ValueError, match="trials must be at least 9, the first bracket"):
        pruner.check(8)
    assert set(PRUNERS) == set(fields.SEARCH_PRUNERS)


def played(pruner, trials, curves, seed=0, limit=None):
    """(jobs made, pruned): whoever trains takes any of the wanted jobs at any time."""
    populations = Populations(pruner)
    for size in pruner.sizes(trials):
        populations.add(size)
    reached, made, dealer = dict.fromkeys(range(trials), 0), [], random.Random(seed)

    def curve(trial, resource):
        return curves[trial][:resource] if reached[trial] >= resource else None

    while wanted := populations.jobs(curve):
        trial, resource = dealer.choice(sorted(wanted.items()))
        assert resource > reached[trial]
        made.append((trial, reached[trial], resource))
        reached[trial] = resource
        if limit is not None and len(made) == limit:
            return reached, populations.pruned
    return made, populations.pruned


def noisy(trials, resource, direction):
    generator = np.random.default_rng(trials)
    level = generator.normal(size=(trials, 1)) + 1 / np.arange(1, resource + 1)
    values = direction * (level + 0.1 * generator.normal(size=level.shape))
    values[generator.random(trials) < 0.2] = math.nan  # these diverged
    return values.tolist()


@pytest.mark.parametrize("name", [name for name in PRUNERS if name != "patience"])
@pytest.mark.parametrize("direction", [1, -1])
def test_decisions_do_not_depend_on_the_order_of_training(name, direction):
    pruner = Pruner(name, 9, 3, minimize=direction == 1)
    curves = noisy(17, 9, direction)
    made, pruned = played(pruner, 17, curves)
    for seed in (1, 2, 3):
        again, others = played(pruner, 17, curves, seed)
        assert others == pruned and sorted(again) == sorted(made)
    started = {trial for trial, begin, _ in made if begin == 0}
    full = {trial for trial, _, end in made if end == 9}
    assert started == set(range(17)) and full.isdisjoint(pruned)
    if name != "none":
        assert full | pruned == started
    if name in ("successive_halving", "asha"):  # in both directions the last of all
        assert not any(math.isnan(curves[trial][0]) for trial in full)


def test_halving_is_that_of_the_paper():
    """Bracket by bracket, rung by rung, with sorted()."""
    curves = noisy(17, 9, 1)
    made, _ = played(Pruner("hyperband", 9, 3), 17, curves)
    expected, first = [], 0
    for number, (n, lowest) in enumerate([(9, 1), (5, 3), (3, 9)]):
        alive, resource, before = list(range(first, first + n)), lowest, 0
        first += n
        for rung in range(3 - number):
            expected += [(trial, before, resource) for trial in alive]
            best = {t: min(curves[t][:resource]) for t in alive}
            ranked = sorted(alive, key=lambda t: (math.isnan(best[t]), best[t], t))
            alive = [t for t in ranked[: n // 3 ** (rung + 1)] if not math.isnan(best[t])]
            before, resource = resource, resource * 3
    assert sorted(made) == sorted(expected)


def test_asha_promotes_as_if_all_values_were_known():
    curves = noisy(27, 9, 1)

    def value(trial, resource):
        return min(curves[trial][:resource])

    made, _ = played(Pruner("asha", 9, 3), 27, curves)
    jobs = asynchronous_halving(
        value, trials=27, workers=WORKERS, min_resource=1, max_resource=9, eta=3
    )
    assert sorted((t, end) for t, _, end in made) == sorted((j.trial, j.resource) for j in jobs)
    # What is not known holds back only what depends on it.
    under_way = Asynchronous([1, 3, 9], trials=27, workers=4, eta=3, minimize=True)
    assert under_way.advance(lambda trial, resource: None) == [(0, 1), (1, 1), (2, 1), (3, 1)]
    known = under_way.advance(lambda t, r: 1.0 if t < 3 else None)
    assert known == [(3, 1)] and under_way.ended == []
    assert len(under_way.advance(lambda t, r: 1.0 if t < 4 and r == 1 else None)) == 4


@pytest.mark.parametrize("direction", [1, -1])
def test_the_median_rule_compares_trials_that_have_come_as_far(direction):
    """Nine flat curves: a stopped one has no mean later on, so more than half are stopped."""
    curves = [[direction * float(level)] * 9 for level in range(9)]
    made, pruned = played(Pruner("median", 9, minimize=direction == 1), 9, curves)
    alive, stopped = list(range(9)), set()
    for resource in range(1, 9):
        worse = {
            t
            for t in alive
            if t > np.median([other for other in alive if other != t] or [math.inf])
        }
        assert {t for t, _, end in made if end == resource + 1} == set(alive) - worse
        stopped, alive = stopped | worse, [t for t in alive if t not in worse]
    assert pruned == stopped == set(range(1, 9))


def test_the_median_rule_stops_trials_that_report_now_and_then():
    """Falling curves, measured from resource 4 on at every second one."""
    fall = [[level + 1 / r if r >= 4 and r % 2 == 0 else math.nan for r in range(1, 13)]
            for level in range(9)]  # fmt: skip
    dense = [[v for v in row if math.isfinite(v)] for row in fall]
    _, pruned = played(Pruner("median", 12), 9, fall)
    _, expected = played(Pruner("median", 5), 9, dense)
    assert pruned == expected and len(pruned) > 4


LONG = {"batch_sizes": (16,), "step_budget": 5000, "epochs": 1, "pruner": "median",
        "pruner_resource": 81, "trials": 9}  # fmt: skip


def ended(study, value, status=Status.COMPLETE, reason="", steps=5000):
    """A trial with ``value`` of each step."""
    measured = tuple((s, value(s)) for s in study.grid(5000) if s <= steps)
    return Ended(status, steps, None, measured[-1][0], reason, measured)


def test_parts_of_a_trial_without_an_evaluation_are_no_reason_to_stop_nobody():
    """In 81 parts of 5,000 steps gaps of 5 % leave some empty; most trials fall after one."""
    study = make_study(**LONG)
    curves = Curves(study, 16)
    curves.take(0, ended(study, lambda step: 0.5))
    empty = np.flatnonzero(np.isnan(curves(0, 81)))
    assert len(empty) > 10
    for index in range(5):
        curves.take(index, ended(study, lambda s: 0.5 if s <= curves.ends[empty[0]] else 0.1))
    for index in range(5, 9):
        curves.take(index, ended(study, lambda step: 0.5))
    populations = Populations(Pruner.of(study))
    populations.add(9)
    assert populations.jobs(curves) == {} and populations.pruned == {5, 6, 7, 8}


def test_a_pruner_without_a_goal_is_refused_by_the_field():
    study = Study(
        name="half", question="?", workload=make_study().workload, batch_sizes=(16,), trials=9,
        step_budget=60, example_budget=960, optimizer="sgd", pruner="median",
    )  # fmt: skip
    with pytest.raises(ValueError, match="^goal must be stated for pruner .median., .* got None$"):
        Pruner.of(study)


def test_a_trial_that_another_rule_pruned_stays_pruned_and_the_search_ends():
    """The record of an earlier version goes on, also where its best trial was stopped first."""
    study = make_study(**LONG)
    early = Curves(study, 16).ends[0]
    known = {0: ended(study, lambda step: 0.0, Status.STOPPED, "pruned", early)}
    known |= {index: ended(study, lambda step, at=index: float(at)) for index in range(1, 8)}
    trials = PrunedTrials(Pruner.of(study), study, 16)
    trials.begin(9)
    trials.recall(known)
    assert trials.jobs() == {8: 1}
    result = TrialResult(study.trial(16, 0, 8, dict.fromkeys(study.space, 0.5), ""),
                         Status.INFEASIBLE, 5, {})  # fmt: skip
    assert trials.end(result) == [result] and trials.jobs() == {}


def test_a_population_that_a_finite_space_could_not_fill_still_trains_one_to_the_end():
    pruner = Pruner("hyperband", 9, 3)
    assert [(r.trials, r.resource) for r in pruner.rungs(0, 2)] == [(2, 1), (1, 3), (1, 9)]


def test_conditions_hold_at_every_depth_and_what_does_not_exist_makes_no_other_point():
    space = ConditionalSpace.of(
        {
            "kind": Choice(("sgd", "momentum", "adam")),
            "momentum": When("kind", ("momentum",), Real(0.5, 0.99, "reverse_log")),
            "beta": When("kind", "adam", Choice((0.9, 0.99))),
            "power": When("beta", 0.99, Integer(1, 4)),
        }
    )
    seen = [space.sample(dict(zip(sorted(space.ranges), row, strict=True)))
            for row in np.random.default_rng(0).random((200, 4))]  # fmt: skip
    for values in seen:
        assert ("momentum" in values) == (values["kind"] == "momentum")
        assert ("beta" in values) == (values["kind"] == "adam")
        assert ("power" in values) == (values.get("beta") == 0.99)
    assert ConditionalSpace.of(space.to_json()) == space
    at = dict.fromkeys(sorted(space.ranges), 0.1)  # alphabetical: beta, kind, momentum, power
    assert space.canonical(at.values()) == (0.5, 0.1, 0.5, 0.5)


@pytest.mark.parametrize("integer", [Integer(16, 512, step=16), Integer(1, 10, step=4)])
def test_every_value_of_a_stepped_range_has_the_same_share(integer):
    units = (np.arange(12_000) + 0.5) / 12_000
    found, counts = np.unique([integer.value(u) for u in units], return_counts=True)
    assert found.tolist() == list(range(integer.low, integer.high + 1, integer.step))
    assert counts.max() - counts.min() <= 1
    assert all(integer.value(integer.position(value)) == value for value in integer.values)


@pytest.mark.parametrize("direction", [1, -1])
def test_extrapolation_stops_what_hardly_beats_earlier_rounds_and_nothing_else(direction):
    """Planted curves c + 0.6 / x: round 0 ends at c = 0.2; of round 1 only c = 0.1 goes on."""
    generator, x = np.random.default_rng(0), np.arange(1, 41)
    ends = [0.2, 0.25, 0.5, 0.1, 0.4]
    curves = {
        t: (direction * (c + 0.6 / x + 0.003 * generator.normal(size=40))).tolist()
        for t, c in enumerate(ends)
    }
    reached = dict.fromkeys(range(5), 0)
    populations = Populations(Pruner("extrapolation", 40, minimize=direction == 1))

    def curve(trial, resource):
        known = trial in reached and reached[trial] >= resource
        return curves[trial][:resource] if known else None

    def play():
        while wanted := populations.jobs(curve):
            trial, resource = random.Random(len(reached)).choice(sorted(wanted.items()))
            reached[trial] = resource

    populations.add(2)
    play()
    assert not populations.pruned and reached[0] == reached[1] == 40
    populations.add(3)
    play()
    assert populations.pruned == {2, 4}
    assert reached == {0: 40, 1: 40, 2: 10, 3: 40, 4: 10}


def test_the_level_below_which_a_trial_stops_is_stated():
    assert BELOW == 0.05
    assert PRUNERS["extrapolation"] == "a trial stops where P(its end beats earlier rounds) < 5 %"
