"""Who goes on: bracket tables of the papers, twins in plain Python, and what never matters."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from experiments.search.asynchronous import asynchronous_halving, promotable
from experiments.search.pruning import (
    Rung,
    best_of,
    early_stopping,
    halving,
    hyperband,
    median_stop,
    power_floor,
    ranking,
    survivors,
)

VALUES = st.lists(
    st.one_of(st.floats(-5, 5), st.sampled_from([math.nan, math.inf, -math.inf, 1.0])), max_size=12
)


@pytest.mark.parametrize(
    ("resource", "eta", "rounding", "trials"),
    [
        (243, 3, "paper", [243, 98, 41, 18, 9, 6]),
        (1000, 10, "paper", [1000, 134, 20, 4]),
        (81, 3, "paper", [81, 34, 15, 8, 5]),
        (81, 3, "floor_first", [81, 27, 9, 6, 5]),
        (8, 2, "paper", [8, 6, 4, 4]),
        (1, 3, "paper", [1]),
    ],
)
def test_hyperbands_brackets(resource, eta, rounding, trials):
    brackets = hyperband(resource, eta, rounding=rounding)
    assert [bracket[0].trials for bracket in brackets] == trials
    assert all(bracket[-1].resource == resource for bracket in brackets)


def test_the_rungs_of_81_by_3_are_those_of_the_paper():
    found = [[(rung.trials, rung.resource) for rung in bracket] for bracket in hyperband(81, 3)]
    assert found == [
        [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)],
        [(34, 3), (11, 9), (3, 27), (1, 81)],
        [(15, 9), (5, 27), (1, 81)],
        [(8, 27), (2, 81)],
        [(5, 81)],
    ]


@given(st.integers(1, 10**9), st.integers(2, 50))
def test_the_number_of_brackets_is_exact_at_powers(value, eta):
    s = power_floor(value, eta)
    assert eta**s <= value < eta ** (s + 1)
    assert power_floor(eta**s, eta) == s


def test_successive_halving_ends_at_the_full_resource():
    assert halving(27, 1, 27, 3) == (Rung(27, 1), Rung(9, 3), Rung(3, 9), Rung(1, 27))
    assert halving(4, 1, 100, 2) == (Rung(4, 1), Rung(2, 2), Rung(1, 100))
    assert halving(10, 50, 100, 3) == (Rung(10, 50), Rung(3, 100))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: hyperband(0), "max_resource must be at least 1, got 0"),
        (lambda: hyperband(9, 1), "eta must be a whole number of at least 2, got 1"),
        (lambda: hyperband(9, 3, rounding="up"), "rounding must be paper or floor_first, got 'up'"),
        (lambda: halving(0, 1, 9, 3), "trials must be at least 1, got 0"),
        (lambda: halving(9, 10, 9, 3), "min_resource must lie between 1 and max_resource = 9"),
        (
            lambda: early_stopping(np.zeros((1, 2)), patience=0, minimize=True),
            "patience must be at least 1, got 0",
        ),
        (
            lambda: early_stopping(np.zeros((1, 2)), patience=1, min_delta=-1.0, minimize=True),
            "min_delta must not be negative, got -1.0",
        ),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@given(VALUES, st.booleans())
def test_what_is_not_finite_ranks_last_in_both_directions_and_ties_go_by_index(values, minimize):
    def twin(row):
        value = values[row]
        return (
            not math.isfinite(value),
            (value if minimize else -value) if math.isfinite(value) else 0.0,
            row,
        )

    assert ranking(np.array(values), minimize=minimize).tolist() == sorted(
        range(len(values)), key=twin
    )


@given(VALUES, st.integers(2, 4), st.booleans())
def test_survivors_are_the_best_share_and_no_loser_beats_one(values, eta, minimize):
    kept = survivors(np.array(values), eta, minimize=minimize)
    assert kept.sum() == len(values) // eta
    sign = 1 if minimize else -1
    score = [sign * v if math.isfinite(v) else math.inf for v in values]
    if kept.any() and not kept.all():
        assert max(np.array(score)[kept]) <= min(np.array(score)[~kept])


def test_a_promotion_is_within_the_top_share_and_comes_once():
    """Of 7 with eta 3 the top 2 (Li et al. 2020): not the third, and nobody twice."""
    values = [5.0, 1.0, math.nan, 3.0, 2.0, 9.0, 4.0]
    assert promotable(values, [False] * 7, 3, minimize=True) == 1
    assert promotable(values, [row == 1 for row in range(7)], 3, minimize=True) == 4
    assert promotable(values, [row in (1, 4) for row in range(7)], 3, minimize=True) is None
    assert promotable(values, [False] * 7, 3, minimize=False) == 5
    assert promotable([math.nan] * 3, [False] * 3, 3, minimize=True) is None


def planted(trial, resource):
    """Trial 7 is best from 9 steps on; trial 3 diverges."""
    return math.nan if trial == 3 else abs(trial - 7) + 10 / resource


def jobs(workers=3, **options):
    settings = {"trials": 18, "min_resource": 1, "max_resource": 9, "eta": 3, **options}
    return asynchronous_halving(planted, workers=workers, **settings)


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_asynchronous_halving_promotes_by_the_papers_rule(workers):
    """At each promotion the trial was among the top floor(n / eta) of what had ended by then."""
    done = jobs(workers)
    assert [j.trial for j in sorted(done, key=lambda j: (j.rung, j.trial)) if j.rung == 0] == (
        list(range(18))
    )
    assert len({(job.trial, job.rung) for job in done}) == len(done)
    for job in done:
        if job.rung:
            began = job.clock - (job.resource - job.resource // 3)
            below = [o for o in done if o.rung == job.rung - 1 and o.clock <= began]
            ahead = [
                o
                for o in below
                if planted(o.trial, o.resource) < planted(job.trial, job.resource // 3)
            ]
            assert len(ahead) < len(below) // 3
    assert any(job.trial == 7 and job.resource == 9 for job in done)
    assert not any(job.trial == 3 and job.rung for job in done)


def test_a_promoted_trial_costs_only_the_further_steps():
    assert jobs(1)[-1].clock == sum(
        job.resource - (job.resource // 3 if job.rung else 0) for job in jobs(1)
    )


def test_nothing_is_promoted_where_all_diverged():
    done = asynchronous_halving(
        lambda trial, resource: math.nan, trials=9, workers=2, min_resource=1, max_resource=9, eta=3
    )
    assert [job.rung for job in done] == [0] * 9


@given(
    st.lists(
        st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=4, max_size=4),
        min_size=2,
        max_size=6,
    ),
    st.booleans(),
)
@settings(max_examples=50)
def test_the_median_rule_equals_its_definition(curves, minimize):
    found = median_stop(np.array(curves), minimize=minimize)
    sign = 1 if minimize else -1
    reported = [[sign * v for v in row if math.isfinite(v)] for row in curves]
    for i, row in enumerate(reported):
        means = [sum(o) / len(o) for j, o in enumerate(reported) if j != i and o]
        best = min(row, default=math.inf)
        assert bool(found[i]) == bool(means and best > statistics.median(means))


def test_the_median_rule_averages_what_was_reported():
    """Empty columns, or a report at every second one alone, decide as if they were not there."""
    level = np.arange(9.0)[:, None] + 1 / np.arange(1, 7)
    expected = median_stop(level, minimize=True)
    assert 0 < expected.sum() < 9
    empty = np.full((9, 6), math.nan)
    assert median_stop(np.hstack([empty, level]), minimize=True).tolist() == expected.tolist()
    second = np.stack([level, empty], axis=-1).reshape(9, 12)
    assert median_stop(second, minimize=True).tolist() == expected.tolist()
    assert not median_stop(empty, minimize=True).any()


def test_trials_that_diverged_do_not_keep_the_median_rule_from_stopping_others():
    curves = np.arange(9.0)[:, None] * np.ones(3)
    curves[4:] = math.nan  # most of them
    assert median_stop(curves, minimize=True).tolist() == [False, False, *[True] * 7]


def test_the_median_rule_waits_for_its_warmup():
    curves = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    assert median_stop(curves, minimize=True).tolist() == [False, False, True]
    assert median_stop(curves, minimize=False).tolist() == [True, False, False]
    assert not median_stop(curves, minimize=True, warmup=2).any()


@given(
    st.lists(st.one_of(st.floats(0, 1), st.just(math.nan)), min_size=1, max_size=12),
    st.integers(1, 4),
    st.floats(0, 0.3),
    st.booleans(),
)
def test_early_stopping_equals_a_loop_with_a_counter(curve, patience, min_delta, minimize):
    best, where, waited, stop = math.inf, -1, 0, len(curve)
    for step, value in enumerate(curve):
        signed = value if minimize else -value
        if math.isfinite(value) and signed < best - min_delta:
            best, where, waited = signed, step, 0
        else:
            waited += 1
            if waited >= patience:
                stop = step
                break
    found = early_stopping(
        np.array([curve]), patience=patience, min_delta=min_delta, minimize=minimize
    )
    assert (found.stop[0], found.best[0]) == (stop, where)


def test_the_best_of_none_is_none():
    assert best_of(np.array([]), 0, minimize=True).tolist() == []
