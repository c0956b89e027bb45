"""The benchmark's fast first crossing equals the step-by-step recursion of the oracle."""

from __future__ import annotations

import numpy as np

from benchmarks.crossing import EXACT, first_crossing
from workloads.oracles.recursions import binned_spectrum, expected_losses


def test_first_crossing_equals_iteration_also_where_the_loss_oscillates():
    rates = np.array([0.19, 0.48, 0.0135, 1.44, 2.9, 0.5, 3.0, 2.0])
    momenta = np.array([0.9979, 0.9959, 0.9988, 0.974, 0.966, 0.0, 0.3, 0.9999])
    sizes = np.array([65536, 65536, 65536, 16384, 65536, 65536, 65536, 4])
    caps = np.full(len(rates), 5000)
    ends = first_crossing(sizes, rates, momenta, caps, scan=EXACT)
    for row in range(len(rates)):
        with np.errstate(over="ignore", invalid="ignore"):
            losses = expected_losses(
                "momentum", binned_spectrum(), int(sizes[row]), rates[row], momenta[row], steps=5000
            )
        below = np.flatnonzero(losses < 0.01)
        assert ends.crossing[row] == (below[0] if len(below) else 0)
        assert not ends.divergence[row] or losses[ends.divergence[row]] > 1e29
    assert (ends.crossing > 0).sum() >= 5


def test_a_diverging_trial_is_known_within_a_factor_of_two_of_its_step():
    ends = first_crossing(np.array([64]), np.array([2.8]), np.array([0.1]), np.array([10_000]))
    losses = expected_losses("momentum", binned_spectrum(), 64, 2.8, 0.1, steps=400)
    first = int(np.flatnonzero(losses > 1e30)[0])
    assert ends.crossing[0] == 0
    assert first <= ends.divergence[0] <= 2 * first


def test_the_tuned_optimum_with_momentum_is_never_behind_the_one_without():
    """SGD is momentum 0, which the grid holds: no gain at a small batch, a large one at a large."""
    rates, momenta = np.geomspace(1e-3, 3.0, 25), np.array([0.0, 0.5, 0.9, 0.97])
    grid = np.stack(np.meshgrid(rates, momenta, indexing="ij"), -1).reshape(-1, 2)
    gains = []
    for batch_size in (256, 4096, 65536):
        caps = np.full(len(grid), 300_000)
        ends = first_crossing(np.full(len(grid), batch_size), grid[:, 0], grid[:, 1], caps)
        steps = np.where(ends.crossing > 0, ends.crossing, np.inf).reshape(len(rates), -1)
        general, special = steps.min(), steps[:, 0].min()
        assert np.isfinite(special) and general <= special
        gains.append(special / general)
    assert gains == sorted(gains) and gains[0] < 1.2 and gains[-1] > 4
