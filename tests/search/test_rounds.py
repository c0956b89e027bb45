"""The schedule of rounds, the race's bound and pace, coordinates and boxes that grow."""

from __future__ import annotations

import numpy as np
import pytest
from support.planted import SPACE, search, valley
from support.tolerances import FLOAT64

from experiments.search.rounds import RoundProgress, counts, laps, next_lap, planned, race_bound
from experiments.search.samplers.base import Ask, Seen, excesses
from experiments.search.samplers.boxes import widened
from experiments.search.samplers.coordinates import coordinates
from experiments.search.samplers.table import sampler
from experiments.spec.space import Real, sample


@pytest.mark.parametrize(
    ("total", "adaptive", "sizes"),
    [
        (24, True, (8, 4, 4, 4, 4)),
        (12, True, (4, 2, 2, 2, 2)),
        (20, True, (7, 3, 3, 3, 3, 1)),
        (3, True, (1, 1, 1)),
        (1, True, (1,)),
        (24, False, (4,) * 6),
        (5, False, (1,) * 5),
    ],
)
def test_a_first_round_of_a_third_and_later_ones_of_a_sixth(total, adaptive, sizes):
    assert planned(total, adaptive=adaptive) == sizes


def test_infeasible_trials_are_replaced_in_the_next_round_and_an_extra_one_after_the_last():
    assert counts(24, {4: RoundProgress(8, 6, 2)}, adaptive=True) == {4: 6}
    assert counts(24, {4: RoundProgress(26, 23, 1)}, adaptive=True) == {4: 1}
    assert counts(24, {4: RoundProgress(25, 24, 0)}, adaptive=True) == {}


def test_at_most_4n_trials_are_started():
    assert counts(6, {4: RoundProgress(23, 2, 3)}, adaptive=True) == {4: 1}
    assert counts(6, {4: RoundProgress(24, 2, 3)}, adaptive=True) == {}


def test_growth_appends_rounds_and_a_new_batch_size_joins_from_the_next_one():
    done = {4: RoundProgress(24, 24), 16: RoundProgress(24, 24)}
    assert counts(24, done, adaptive=True) == {}
    assert counts(36, done, adaptive=True) == {4: 6, 16: 6}
    assert counts(24, {**done, 64: RoundProgress()}, adaptive=True) == {64: 8}
    assert counts(24, {**done, 64: RoundProgress()}, adaptive=True, exhausted=[64]) == {}


def test_no_trials_are_refused():
    with pytest.raises(ValueError, match="trials must be at least 1, got 0"):
        counts(0, {}, adaptive=True)


def test_the_race_ends_a_trial_at_a_multiple_of_the_fewest_steps_known():
    assert race_bound(None, 1000, 3.0) == 1000
    assert race_bound(101, 1000, 3.0) == 303
    assert race_bound(101, 200, 3.0) == 200
    with pytest.raises(ValueError, match="race_factor must be at least 1, got 0.5"):
        race_bound(101, 200, 0.5)


def test_a_paced_round_doubles_until_one_passes_the_goal():
    assert laps(1000) == [4, 8, 16, 32, 63, 125, 250, 500, 1000]
    assert laps(3) == [1, 2, 3]
    made, fewest, lengths = 0, None, []
    while (lap := next_lap(made, 1000, fewest)) is not None:
        made, fewest = lap, 20 if lap >= 20 else None
        lengths.append(lap)
    assert lengths == [4, 8, 16, 32]
    assert next_lap(1000, 1000, None) is None


def test_coordinates_of_a_momentum_rule_are_the_effective_rate_and_the_momentum():
    """Along a line of constant rate / (1 - momentum) the first coordinate does not move."""
    linear = coordinates(SPACE)
    rate, momentum = SPACE["learning_rate"], SPACE["momentum"]
    points = [(rate.position(0.5 * (1 - m)), momentum.position(m)) for m in (0.0, 0.5, 0.9, 0.99)]
    found = linear.of(np.array(points))
    np.testing.assert_allclose(found[:, 0], found[0, 0], atol=FLOAT64)
    np.testing.assert_allclose(linear.positions(found), points, atol=FLOAT64)
    assert sample(SPACE, {"learning_rate": points[2][0], "momentum": points[2][1]}) == (
        pytest.approx({"learning_rate": 0.05, "momentum": 0.9})
    )


def test_coordinates_of_adam_divide_epsilon_by_the_rate():
    space = {"learning_rate": Real(1e-5, 1.0, "log"), "epsilon": Real(1e-10, 1e-3, "log")}
    eps, rate = space["epsilon"], space["learning_rate"]
    points = np.array([(eps.position(1e-6 * a), rate.position(a)) for a in (1e-4, 1e-2, 1.0)])
    found = coordinates(space).of(points)
    np.testing.assert_allclose(found[:, 0], found[0, 0], atol=FLOAT64)


def test_coordinates_stay_plain_on_other_scales():
    space = {"learning_rate": Real(0.1, 1.0), "momentum": Real(0.0, 0.9)}
    np.testing.assert_array_equal(coordinates(space).forward, np.eye(2))


def test_excess_is_per_batch_size_and_a_censored_trial_is_above_its_bound():
    trials = [
        Seen(4, 0, (0.1,), "reached", 100),
        Seen(4, 1, (0.2,), "reached", 400),
        Seen(4, 2, (0.3,), "censored", 200),
        Seen(4, 3, (0.4,), "infeasible"),
        Seen(16, 0, (0.1,), "reached", 7),
        Seen(64, 0, (0.1,), "censored", 5),
    ]
    ask = Ask(0, 1, 6, {"rate": Real(0.1, 1.0)}, {4: 1}, tuple(trials))
    assert excesses(ask, trials).tolist() == [0, 2, 2, 6, 0, 6]


def at_edge(position, **options):
    trials = (Seen(4, 0, (position, 0.5), "reached", 100), Seen(4, 1, (0.5, 0.5), "reached", 200))
    return widened(Ask(0, 1, 24, SPACE, {4: 4}, trials, **options), 4)


def test_a_box_grows_where_the_best_trial_lies_at_its_edge_within_legal_values():
    legal = {"learning_rate": (0.0, 1e6), "momentum": (0.0, 1.0)}
    assert at_edge(0.99, limits=legal) == ((0.0, 1.25), (0.0, 1.0))
    assert at_edge(0.01, limits=legal) == ((-0.25, 1.0), (0.0, 1.0))
    assert at_edge(0.5, limits=legal) == ((0.0, 1.0), (0.0, 1.0))
    assert at_edge(0.99) == ((0.0, 1.0), (0.0, 1.0))
    assert at_edge(0.99, limits={"learning_rate": (0.0, 10**0.4)})[0] == (0.0, pytest.approx(1.1))


def test_an_optimum_beyond_the_edge_is_found_by_growing_boxes():
    def planted(batch_size, point):
        return "reached", 100 * 2 ** (10 * ((point[0] - 1.3) ** 2 + (point[1] - 0.4) ** 2))

    legal = {"learning_rate": (0.0, 1e6)}
    kept = search(sampler("rounds"), planted, batch_sizes=(4,))
    grown = search(sampler("rounds"), planted, batch_sizes=(4,), limits=legal)
    assert kept.best(4) > 100 * 2 ** (10 * 0.3**2)
    assert grown.best(4) < 130
    assert grown.boxes[4][0][1] > 1.2


def test_batch_sizes_begin_at_different_points_and_learn_from_their_neighbours():
    found = search(sampler("rounds"), valley, batch_sizes=(4, 16))
    first = [t.point for t in found.seen if t.index < found.rounds[0][t.batch_size]]
    assert len(set(first)) == len(first) == 16
    ask = Ask(0, 1, 24, SPACE, {4: 4}, tuple(t for t in found.seen if t.index < 8))
    alone = Ask(0, 1, 24, SPACE, {4: 4}, tuple(t for t in ask.seen if t.batch_size == 4))
    assert sampler("rounds")(ask).points != sampler("rounds")(alone).points
