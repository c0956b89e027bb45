"""The replay of a search that stops runs: exact knowledge costs nothing, a coin costs regret."""

from __future__ import annotations

import numpy as np

from experiments.search.architecture.calibration import Calibration
from experiments.search.architecture.curves import Extrapolation
from experiments.search.architecture.stopping import replayed

ENDS = np.array([0.5, 0.3, 0.4, 0.2, 0.6])


def known(value):
    """A prediction that is certain, where scores are zero."""
    return Extrapolation(1.0, value, {}, np.full(2, value), 1.0)


CERTAIN = dict.fromkeys((0.1, 0.25, 0.5), Calibration(np.zeros(400)))


def test_with_certain_predictions_only_better_runs_are_finished():
    curves = {0.25: [known(end) for end in ENDS]}
    found = replayed(ENDS, curves, [0, 1, 2, 3, 4], CERTAIN)
    assert found.regret == 0 and found.wrongly == 0
    assert found.stopped == 2  # 0.4 after 0.3, and 0.6
    assert found.cost == (3 + 2 * 0.25) / 5


def test_a_run_stops_at_the_first_cut_that_says_so():
    curves = {0.1: [None] * 5, 0.5: [known(9.0)] * 5}
    found = replayed(ENDS, curves, [4, 3, 2, 1, 0], CERTAIN)
    assert found.stopped == 4 and found.wrongly == 4
    assert found.regret == 0.6 - 0.2
    assert found.cost == (1 + 4 * 0.5) / 5


def test_the_level_is_the_least_probability_that_goes_on():
    scores = {0.5: Calibration(np.sort(np.r_[np.full(40, -0.7), np.full(360, 0.1)]))}
    curves = {0.5: [known(0.8)] * 5}  # beats 0.3 with 10 %
    assert replayed(ENDS, curves, [1, 0], scores, below=0.05).stopped == 0
    assert replayed(ENDS, curves, [1, 0], scores, below=0.15).stopped == 1
