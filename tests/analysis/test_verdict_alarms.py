"""Every planted pathology is found; sound records raise next to no alarm."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.verdict_records import SIZES, Law, simulated, sound

from experiments.analysis.checks import CHECKS, check_name, checks_of
from experiments.analysis.curve_checks import late_noise, rise
from experiments.analysis.summary import summarise

MEDIAN_OF_FIVE = 0.1
"""The ends of a fall and of a rise are medians of five of their 30 points."""
NOISE_ESTIMATED = 0.4
"""A deviation estimated from the differences of sixty draws about a median."""

PLANTED = {
    "edge_optimum": Law(optimum=0.99),
    "too_few_good": Law(lucky=True),
    "mostly_infeasible": Law(diverges_above=0.05),
    "unstable_above": Law(diverges_above=1.3),
    "overfitting": Law(val_rises=0.3),
    "training_rises": Law(val_rises=0.3, train_rises=0.3),
    "late_variance": Law(late_noise=0.1),
    "best_step": Law(speed=0.12),
    "mostly_clipped": Law(clipped=0.7),
    "mixed_budgets": Law(longer=((8, 3.0),)),
    "unequal_tuning": Law(trials=((8, 6),)),
    "untuned_smallest": Law(slower=((8, 3.0),)),
    "non_monotone": Law(slower=((128, 6.0),)),
    "shortfall": Law(trials=((32, 3),)),
    "unreached": Law(floor=0.09, slower=((128, 30.0),)),
}


def checks(record):
    summary = summarise(record)
    return {check.check: check for check in checks_of(summary.question, summary.verdict)}


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_pathology_is_found_with_evidence_and_a_command(name):
    found = checks(simulated(PLANTED[name]))
    check = found[name]
    assert check.severity in ("high", "medium", "low") and check.evidence
    assert check.next.command.startswith("batchscale "), check
    assert json.loads(json.dumps(check.to_json()))["check"] == name
    assert name not in checks(simulated())


def test_training_that_is_at_its_best_early_and_one_search_are_found():
    early = checks(simulated(Law(speed=12, noise=4e-4, val_rises=0.05, rises_from=0.05)))
    assert early["best_step"].severity == "low" and "far fewer" in early["best_step"].sentence
    assert set(checks(simulated(seeds=(0,)))) == {"one_search"}


def test_every_check_has_a_planted_record():
    planted = {*PLANTED, "one_search", "poor_fit", "inconclusive"}  # (test_inconclusive.py)
    assert {check_name(type(name, (), {})) for name in CHECKS} == planted


def test_sound_records_raise_next_to_no_alarm():
    """benchmarks/verdict_alarms.py counts over 500; here 30 of the same."""
    raised = [set(checks(sound(seed))) for seed in range(30)]
    clean = sum(not found for found in raised)
    assert clean >= 0.85 * len(raised), raised
    for name in {n for found in raised for n in found}:
        assert sum(name in found for found in raised) <= 0.1 * len(raised), name


def test_the_largest_batch_size_of_a_finding_is_where_it_was_planted():
    assert checks(simulated(Law(slower=((SIZES[-1], 6.0),))))["non_monotone"].evidence[
        "batch_sizes"] == (SIZES[-1],)  # fmt: skip


def test_a_rise_is_what_was_lost_again_and_noise_is_none():
    fall = np.concatenate([np.linspace(1.0, 0.2, 30), np.linspace(0.2, 0.6, 30)])
    assert rise(fall) == pytest.approx((0.6 - 0.2) / (1.0 - 0.2), rel=MEDIAN_OF_FIVE)
    assert rise(fall[:30]) is None
    noise = 0.2 + 0.1 * np.random.default_rng(0).standard_normal(60)
    assert rise(np.concatenate([fall[:30], noise])) is None
    steps = np.arange(1, 91)
    flat = np.concatenate([fall[:30], noise])
    share = late_noise(flat, steps)
    assert share == pytest.approx(0.1 / 0.85, rel=NOISE_ESTIMATED)
    assert late_noise(np.concatenate([fall[:30], np.full(60, 0.2)]), steps) is None
