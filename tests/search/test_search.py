"""A search on a planted function: its rounds, whatever the timing, and what it goes on with."""

from __future__ import annotations

import dataclasses
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine_factory import tiny_study
from support.planted import SPACE, valley

from experiments.search.record import Ended, Round
from experiments.search.samplers.table import SAMPLERS, sampler
from experiments.search.search import Search
from experiments.spec import fields
from experiments.spec.trial import Status, TrialResult

SIZES = (4, 16)


def planted_study(**changes):
    given = {"batch_sizes": SIZES, "space": SPACE, "trials": 9, "sampler": "rounds", **changes}
    return tiny_study(**given)


def answer(study, trial, planted=valley):
    """What the planted function says of a trial, as a result."""
    names = sorted(study.space)
    point = tuple(study.space[name].position(trial.hyperparameters[name]) for name in names)
    outcome, steps = planted(trial.batch_size, point)
    if outcome == "infeasible":
        return TrialResult(trial, Status.INFEASIBLE, 5, {})
    passed = np.array([study.goal.value - 0.1 if outcome == "reached" else 1.0])
    table = {"step": np.array([int(steps)]), study.goal.column: passed}
    return TrialResult(trial, Status.COMPLETE, int(steps), table)


def train(search, shuffle=None, rounds=99, planted=valley):
    """Search on, trials ending in any order, at most so many rounds; returns trials by key."""
    order, running, trials = random.Random(shuffle), [], {}
    while True:
        while len(search.rounds) < rounds and (counts := search.due()):
            found = json.loads(json.dumps(search.propose(counts).to_json()))
            search.add(Round.from_json(found))
        able = [b for b in search.study.batch_sizes if search.startable(b)]
        if able and order.random() < 0.6:
            running.append(search.start(order.choice(able)))
        elif running:
            trial = running.pop(order.randrange(len(running)))
            trials[trial.key] = trial
            search.end(answer(search.study, trial, planted))
        elif not able:
            return trials


@pytest.mark.parametrize("name", ["rounds", "halton", "random", "grid"])
@settings(max_examples=8)
@given(shuffle=st.integers(0, 1000))
def test_points_and_identities_do_not_depend_on_the_timing(name, shuffle):
    one, other = (Search(planted_study(sampler=name), 3, "checksum") for _ in range(2))
    assert train(one, shuffle) == train(other)
    if SAMPLERS[name].adaptive:
        assert [r.to_json() for r in one.rounds] == [r.to_json() for r in other.rounds]
    for batch_size in SIZES:
        complete = sum(e.status == "COMPLETE" for e in one.ended(batch_size).values())
        assert complete == 9 and not one.unfinished(batch_size)


def test_a_search_goes_on_from_its_recorded_rounds_and_recomputes_none():
    study = planted_study()
    whole = Search(study, 0, "checksum")
    expected = train(whole)
    half = Search(study, 0, "checksum")
    train(half, rounds=2)
    ended = {(b, i): how for b in SIZES for i, how in half.ended(b).items()}
    resumed = Search(study, 0, "checksum", recorded=half.rounds, ended=ended)
    assert {**train(resumed), **{k: expected[k] for k in expected if k[::2] in ended}} == expected
    assert [r.to_json() for r in resumed.rounds] == [r.to_json() for r in whole.rounds]


def test_the_first_round_takes_a_third_and_later_ones_wait_for_every_batch_size():
    search = Search(planted_study(trials=12), 0, "checksum")
    search.add(search.propose(search.due()))
    assert [search.proposed(b) for b in SIZES] == [4, 4]
    for _ in range(4):
        search.end(answer(search.study, search.start(4)))
    assert not search.startable(4) and not search.due() and search.unfinished(4)
    for _ in range(4):
        search.end(answer(search.study, search.start(16)))
    replaced = {b: search.count(Status.INFEASIBLE, b) for b in SIZES}
    assert search.due() == {b: 2 + replaced[b] for b in SIZES}


def test_growth_appends_rounds_and_a_new_batch_size_joins_with_the_next():
    study = planted_study(trials=6)
    small = Search(study, 0, "checksum")
    train(small)
    before = [r.to_json() for r in small.rounds]
    ended = {(b, i): how for b in SIZES for i, how in small.ended(b).items()}
    larger = planted_study(trials=12, batch_sizes=(4, 16, 64))
    grown = Search(larger, 0, "checksum", recorded=small.rounds, ended=ended)
    counts = grown.due()
    assert counts[64] == 4 and counts[4] == counts[16] == 2
    train(grown)
    assert [r.to_json() for r in grown.rounds][: len(before)] == before
    assert all(not grown.unfinished(b) for b in (4, 16, 64))


def rising(batch_size, point):
    """Better and better towards higher rates, beyond the end of the space too."""
    del batch_size
    return "reached", 1000 * 2 ** -point[0] if point[0] > 0 else 1000.0


def test_a_best_point_at_an_edge_widens_the_box_within_legal_limits_unless_kept():
    wide, kept = (
        train(Search(planted_study(expand=expand, trials=24), 0, ""), planted=rising)
        for expand in (True, False)
    )
    rates = [
        max(t.hyperparameters["learning_rate"] for t in found.values()) for found in (wide, kept)
    ]
    assert rates[0] > 1.0 >= rates[1]
    assert all(0 <= t.hyperparameters["momentum"] < 1 for t in wide.values())


def test_no_more_than_four_times_the_trials_are_started():
    search = Search(planted_study(trials=3), 0, "")
    train(search, planted=lambda batch_size, point: ("infeasible", float("inf")))
    assert [len(search.ended(b)) for b in SIZES] == [12, 12]


def test_the_names_of_samplers_in_a_study_are_those_of_the_table():
    assert fields.SAMPLERS == tuple(SAMPLERS)
    with pytest.raises(ValueError, match="sampler must be halton, random, grid"):
        tiny_study(sampler="sobol")
    assert sampler(fields.DEFAULT_SAMPLER)


def test_a_study_without_a_space_repeats_one_configuration_and_one_trial_is_a_search_too():
    fixed = {"learning_rate": 0.1, "momentum": 0.9}
    search = Search(planted_study(sampler=None, space={}, fixed=fixed, trials=3), 0, "")
    found = train(search, planted=lambda batch_size, point: ("reached", 10.0))
    assert search.study.sampler == "halton" and len(found) == 3 * len(SIZES)
    assert all(fixed.items() <= trial.hyperparameters.items() for trial in found.values())
    one = Search(planted_study(sampler=None, trials=1), 0, "")
    assert len(train(one, planted=rising)) == len(SIZES) and one.study.sampler == "rounds"
    assert len(one.rounds) == 1


def test_full_length_searches_are_told_what_a_racing_trial_would_have_shown():
    study = planted_study(stop="race", race_factor=2.0, trials=12, sampler="halton")
    search = Search(study, 0, "", full=True)
    search.add(search.propose(search.due()))
    ends = {
        0: Ended(Status.COMPLETE, 60, passed=10, last=60),
        1: Ended(Status.INFEASIBLE, 30, passed=12, last=29),  # passed, then diverged
        2: Ended(Status.INFEASIBLE, 30, None, last=29),  # the race had ended it before
        3: Ended(Status.INFEASIBLE, 15, None, last=14),
        4: Ended(Status.COMPLETE, 60, passed=50, last=60),
    }
    for batch_size in SIZES:
        search.ended(batch_size)[0] = ends[0]
        search.ended(batch_size)[1] = ends[1]
    search.add(search.propose({b: 3 for b in SIZES}))
    for index in (2, 3, 4):
        search.ended(4)[index] = ends[index]
    assert [search.race_bound(4, i) for i in range(5)] == [16, 16, 20, 20, 20]  # 16: a lap
    assert [search.outcome(4, i) for i in range(5)] == [
        ("reached", 10.0), ("reached", 12.0), ("censored", 20.0), ("infeasible", float("inf")),
        ("censored", 20.0),
    ]  # fmt: skip
    trial = search.trial(4, 4)
    assert (trial.stops, trial.race_bound, trial.most_steps) == (False, 20, trial.train_steps)
    raced = dataclasses.replace(trial, stops=True)
    assert raced.most_steps == 20 and raced.identity == trial.identity
