"""A first round in laps: whatever the timing, and a kill, it makes the same trials and steps."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine_factory import tiny_study
from support.planted import SPACE

from experiments.search.pacing import last_lap
from experiments.search.record import Ended
from experiments.search.rounds import laps
from experiments.search.search import Search
from experiments.spec.trial import Status, TrialResult

SIZES = (4, 16)
LENGTH = 300


def raced_study(**changes):
    given = {"batch_sizes": SIZES, "space": SPACE, "trials": 12, "sampler": "rounds",
             "stop": "race", "step_budget": LENGTH, "example_budget": 1, **changes}  # fmt: skip
    return tiny_study(**given)


def truth(trial):
    """(step at which it passes the goal, step at which it diverges): what full length shows."""
    effective = trial.hyperparameters["learning_rate"] / (1 - trial.hyperparameters["momentum"])
    off = abs(math.log10(effective) + 0.5 - 0.1 * math.log2(trial.batch_size))
    passed = int(12 * 4**off)
    diverged = 40 if effective > 30 else 15 if effective > 8 else math.inf
    return passed if passed <= LENGTH else math.inf, diverged


def trained(study, trial):
    """What the engine returns of a trial."""
    passed, diverged = truth(trial)
    ends = {"goal": passed if trial.stops else math.inf, "diverged": diverged,
            "": trial.most_steps}  # fmt: skip
    why = min(ends, key=lambda name: (ends[name], name != "goal"))
    steps = int(ends[why])
    seen = [int(passed)] if passed <= min(steps, diverged - 1) else []
    limit = steps - 1 if why == "diverged" else steps
    rows = sorted({*seen, max(step for step in study.grid(LENGTH) if step <= limit)})
    values = np.array([study.goal.value - 0.1 if step >= passed else 1.0 for step in rows])
    table = {"step": np.array(rows), study.goal.column: values}
    status, reason = Status.COMPLETE, ""
    if why == "goal":
        status, reason = Status.STOPPED, "goal"
    elif why == "diverged":
        status = Status.INFEASIBLE
    elif steps < trial.train_steps:
        status, reason = Status.STOPPED, "pruned" if trial.pauses else "race"
    return TrialResult(trial, status, steps, table, reason=reason)


def train(search, shuffle=0, most=10**9):
    """Search on, trials ending in any order, until ``most`` have; key -> final result."""
    order, running, final, ended = random.Random(shuffle), [], {}, 0
    while ended < most:
        while counts := search.due():
            search.add(search.propose(counts))
        able = [b for b in search.study.batch_sizes if search.startable(b)]
        if able and order.random() < 0.6:
            running.append(search.start(order.choice(able)))
        elif running:
            trial = running.pop(order.randrange(len(running)))
            ended += 1
            for result in search.end(trained(search.study, trial)):
                assert result.trial.key not in final and result.trial.pause is None
                final[result.trial.key] = result
        elif not able:
            break
    return final


def facts(results):
    """What is recorded of each trial."""
    return {
        key: (r.trial.hyperparameters, r.trial.race_bound, r.status, r.reason, r.steps)
        for key, r in results.items()
    }


@pytest.mark.parametrize("full", [False, True])
def test_the_first_round_ends_at_the_first_lap_by_which_a_trial_has_passed(full):
    study = raced_study()
    search = Search(study, 0, "", full=full)
    found = train(search)
    first = search.rounds[0].counts
    for batch_size in SIZES:
        own = [found[batch_size, 0, i] for i in range(first[batch_size])]
        passed = [truth(r.trial)[0] for r in own if truth(r.trial)[0] < truth(r.trial)[1]]
        bound = search.race_bound(batch_size, 0)
        late = [r for r in own if not full or r.status == Status.INFEASIBLE]
        assert {r.trial.race_bound for r in late} <= {bound} and (full or late)
        assert bound == next(lap for lap in laps(LENGTH) if lap >= min(passed))
        assert min(passed) <= bound < 2 * min(passed) < LENGTH
        for result in own if not full else ():
            expected = min(*truth(result.trial), bound)
            assert result.steps == expected
            assert (result.reason == "race") == (expected < min(truth(result.trial)))


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.booleans())
def test_neither_timing_nor_a_kill_changes_trials_bounds_and_steps(shuffle, full):
    study = raced_study()
    whole = train(Search(study, 3, "", full=full))
    search = Search(study, 3, "", full=full)
    before = train(search, shuffle, most=shuffle % 60)
    ended = {(b, i): Ended.of(result, study.goal) for (b, _, i), result in before.items()}
    again = Search(study, 3, "", full=full, recorded=search.rounds, ended=ended)
    assert facts(before | train(again, shuffle + 1)) == facts(whole)


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_a_search_at_full_length_is_told_what_one_that_races_shows(seed):
    """Both propose the same points in every round, a late divergence counting in both."""
    study = raced_study()
    raced, full = (Search(study, seed, "", full=full) for full in (False, True))
    train(raced)
    train(full, shuffle=1)
    assert [r.to_json() for r in raced.rounds] == [r.to_json() for r in full.rounds]
    for batch_size in SIZES:
        indices = range(raced.proposed(batch_size))
        told = [[s.outcome(batch_size, i) for i in indices] for s in (raced, full)]
        assert told[0] == told[1]


def test_where_no_trial_passes_every_round_goes_to_the_full_length():
    study = raced_study(trials=3)
    hopeless = Search(study, 0, "", full=False)
    trial = None
    steps = []
    while counts := hopeless.due():
        hopeless.add(hopeless.propose(counts))
        while any(hopeless.startable(b) for b in SIZES):
            for batch_size in SIZES:
                if (trial := hopeless.start(batch_size)) is None:
                    continue
                steps.append(trial.most_steps)
                reason = "pruned" if trial.pauses else ""
                status = Status.STOPPED if trial.pauses else Status.COMPLETE
                hopeless.end(TrialResult(trial, status, trial.most_steps, {}, reason=reason))
    assert sorted(set(steps)) == laps(LENGTH)
    assert all(hopeless.ended(b)[i].steps == LENGTH for b in SIZES for i in range(3))
    assert all(hopeless.race_bound(b, i) is None for b in SIZES for i in range(3))


def test_a_trial_that_failed_holds_up_nobody():
    study = raced_study(trials=6, batch_sizes=(4,))
    search = Search(study, 0, "", full=False)
    search.add(search.propose(search.due()))
    broken, other = search.start(4), search.start(4)
    failed = TrialResult(broken, Status.INCOMPLETE, 0, {}, message="it broke")
    assert search.end(failed) == [failed]
    laps_made = []
    while not (found := search.end(trained(study, other))):
        laps_made.append(other.pause)
        other = search.start(4)
    (final,) = found
    assert final.trial.key == other.key and laps_made == laps(LENGTH)[: len(laps_made)]
    assert search.due()


def test_the_last_lap():
    assert last_lap(1000, [None, 20, 500]) == 32
    assert last_lap(1000, [1000]) == 1000
    assert last_lap(1000, [None]) is None
