"""The rule that tells stable from unstable, on curves whose truth is known."""

from __future__ import annotations

import dataclasses
import functools
import math

import numpy as np
import pytest
from support.tolerances import FLOAT64

from experiments.analysis.rate_sweep import SweepRun, best_run, bracket, undecided
from experiments.analysis.training_stability import (
    NOISE_BATCHES,
    UNSTABLE,
    LossCurve,
    classify,
    settles_lower,
    smoothed,
)
from experiments.spec.trial import evaluation_steps
from workloads.base import Goal

H = 1 / np.arange(1, 101)
MU = 0.9
EDGES = {"sgd": 2.0, "momentum": 2 * (1 + MU), "nesterov": 2 * (1 + MU) / (1 + 2 * MU)}
"""The largest stable rates of the noisy quadratic model, whose largest eigenvalue is 1."""
RUNS, LENGTH = 40, 200


@functools.cache
def quadratic(rule: str, rate: float, batch_size: int, length: int = LENGTH) -> list[LossCurve]:
    """Trials of the noisy quadratic model in 100 dimensions, by its definition, in float64."""
    generator = np.random.default_rng([batch_size, round(1e6 * rate)])
    theta = generator.standard_normal((RUNS, 100))
    velocity = np.zeros_like(theta)
    first = 0.5 * (H * theta**2).sum(1)
    grid = evaluation_steps(length)
    losses = []
    for step in range(1, length + 1):
        noise = generator.standard_normal(theta.shape) * np.sqrt(H / batch_size)
        gradient = H * theta + noise
        velocity = (0.0 if rule == "sgd" else MU) * velocity + gradient
        theta = theta - rate * (gradient + MU * velocity if rule == "nesterov" else velocity)
        if step in grid:
            losses.append(0.5 * (H * theta**2).sum(1))
    found = []
    for run, start in enumerate(first):
        column = np.array(losses)[:, run]
        over = np.flatnonzero(~(column < 1e4 * start))
        end = over[0] if len(over) else len(grid)
        found.append(
            LossCurve(grid[:end], column[:end], start, length, grid[end] if len(over) else None)
        )
    return found


@pytest.mark.parametrize("batch_size", [1, 16, 1024])
@pytest.mark.parametrize("rule", EDGES)
def test_the_largest_stable_rate_of_a_quadratic_is_bracketed_at_every_batch_size(rule, batch_size):
    """5 % above it every trial diverges or grows; 5 % below it none does, noise floor or not."""
    above = [classify(c).kind for c in quadratic(rule, 1.05 * EDGES[rule], batch_size)]
    below = [classify(c).kind for c in quadratic(rule, 0.95 * EDGES[rule], batch_size)]
    assert set(above) == {"divergence"}
    assert "divergence" not in below


@pytest.mark.parametrize("batch_size", [1, 16, 1024])
@pytest.mark.parametrize("rule", EDGES)
def test_a_sweep_brackets_the_largest_stable_rate_within_one_step_of_its_grid(rule, batch_size):
    """Twenty sweeps by a factor of 1.5, levels of noise told apart as a procedure tells them."""
    edge, goal = EDGES[rule], Goal("loss", 0.01, split="train")
    rates = [edge / 20, *(edge * 1.5 ** (k + 0.5) for k in (-3, -2, -1, 0))]
    found = set()
    for one in range(20):
        courses = {rate: quadratic(rule, rate, batch_size)[one] for rate in rates}
        runs = [
            SweepRun((batch_size, 0, at), rate, curve, classify(curve), min(curve.losses), 1)
            for at, (rate, curve) in enumerate(courses.items())
        ]
        best = best_run(runs, goal)
        noisy = {
            rate: settles_lower(
                courses[rate], quadratic(rule, rate, NOISE_BATCHES * batch_size)[one]
            )
            for rate in undecided(runs, best)
        }
        found.add(dataclasses.astuple(bracket(runs, best, noisy)))
    assert found == {(rates[-2], rates[-1])}


def test_a_noise_floor_above_the_first_loss_is_no_growth():
    """At batch size 1 stable SGD ends above its first loss from a rate of about 1.35 on."""
    for rate in (1.35, 1.7, 1.9):
        curves = quadratic("sgd", rate, 1)
        ends = np.median([np.median(c.losses[-10:]) / c.first_loss for c in curves])
        assert ends > 0.9
        larger = quadratic("sgd", rate, 16)
        assert np.mean([settles_lower(a, b) for a, b in zip(curves, larger, strict=True)]) > 0.8


@pytest.mark.parametrize("rate", [0.3, 1.0, 1.4])
def test_stable_training_raises_few_false_alarms(rate):
    for batch_size, most in ((1, 0.2), (16, 0.05), (1024, 0.05)):
        kinds = [classify(curve).kind for curve in quadratic("sgd", rate, batch_size)]
        assert sum(kind in UNSTABLE for kind in kinds) <= most * RUNS


def curve(height, length=500, noise=0.02, **options):
    """exp(height(share of the length)) with noise, on the evaluation grid."""
    steps = evaluation_steps(length)
    generator = np.random.default_rng(0)
    y = [height(s / length) + noise * generator.standard_normal() for s in steps]
    return LossCurve(steps, np.exp(y), 1.0, length, **options)


def test_a_planted_course_gets_its_class():
    decline = curve(lambda t: -3 * t)
    assert classify(decline).kind == "stable"
    early = curve(lambda t: (2.0 if 0.01 < t < 0.03 else 0.0) - 2 * t)
    assert classify(early).kind == "early instability"
    assert 5 <= classify(early).onset <= 15
    for height in (1.5, 5.0):
        spike = curve(lambda t, h=height: -2 * t + (h if 0.5 < t < 0.55 else 0.0))
        assert classify(spike).kind == "mid-training instability"
        assert 250 <= classify(spike).onset <= 275
    stays = curve(lambda t: -2 * t + (3.0 if t > 0.6 else 0.0))
    assert classify(stays).kind == "mid-training instability"
    assert classify(curve(lambda t: 0.0)).kind == "no progress"
    grows = curve(lambda t: -2 + 4 * t)
    assert classify(grows).kind == "divergence" and "geometrically" in classify(grows).evidence
    ended = classify(LossCurve([1, 2], [1.0, 3.0], 1.0, 100, diverged_at=3))
    assert (ended.kind, ended.onset) == ("divergence", 3) and "early" in ended.evidence


def test_losses_of_any_sign_are_judged():
    steps = evaluation_steps(300)
    down = LossCurve(steps, [1.0 - 5 * s / 300 for s in steps], 1.0, 300)
    assert classify(down).kind == "stable"
    spike = [1.0 - 5 * s / 300 + (8 if 150 < s < 160 else 0) for s in steps]
    assert classify(LossCurve(steps, spike, 1.0, 300)).kind == "mid-training instability"


def test_a_smoothed_curve_starts_at_its_first_value():
    steps, values = [1, 2, 4, 8], [7.0, 3.0, 3.0, 3.0]
    kept, expected = 7.0, [7.0]
    for before, now, value in zip(steps, steps[1:], values[1:], strict=False):
        weight = 2 ** (-(now - before) / 2.0)
        kept = weight * kept + (1 - weight) * value
        expected.append(kept)
    assert smoothed(values, steps, half_life=2.0) == pytest.approx(expected, rel=FLOAT64)
    assert smoothed([5.0] * 4, steps, 3.0) == pytest.approx([5.0] * 4)
    assert math.isclose(smoothed([1.0], [1], 5.0)[0], 1.0)
