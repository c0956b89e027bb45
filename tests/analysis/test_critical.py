"""Regimes, the perfect-scaling limit and the noise critical batch size, on data of known truth."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from support.records_factory import Truth, make_record, make_study

from experiments.analysis.critical_batch_size import (
    anchored_limit,
    fewest_examples,
    fitted,
    flat_start,
    hyperbola_limit,
    noise_critical_batch_size,
    perfect_scaling_limit,
)
from experiments.analysis.definitions import definition_table
from experiments.analysis.hyperbola import fit_hyperbola
from experiments.analysis.regimes import DIMINISHING, FLAT, PERFECT, REGIMES, points_of, scaling
from experiments.analysis.summary import summarise

FITTED = 1e-4
"""The search for the curve of exact data stops this near its parameters."""
BETWEEN_SEARCHES = 1e-3
"""A border is found on the fitted curve, some fits away from the parameters themselves."""
OF_A_NOISY_POINT = 0.1
"""An error of 15 %, or the best of 24 trials that is up to 10 % slow, moves a fit of all points by
less than 10 %."""
OF_THE_SHARPNESS = 0.25
"""The same error moves the sharpness as well, and with it the end by up to a quarter."""
ROUNDING = 1e-9
"""Of a formula in float64."""
INTERPOLATED = 0.1
"""A convex curve is straight between points an octave apart, where a hyperbola bends."""
STRAIGHT = 2e-3
"""A line of perfect scaling is the limit of hyperbolas; the fit stops on the way to it."""

POWERS = 2.0 ** np.arange(0, 17)
POWERS_OF_TWO = tuple(2**k for k in range(11))


def exact(batch_sizes, *searches):
    """The points of one or several searches."""
    return [(np.array(batch_sizes, float), np.array(steps, float)) for steps in searches]


def table_of(batch_sizes, steps):
    return pl.DataFrame(
        {
            "batch_size": [int(b) for b in batch_sizes],
            "seed": 0,
            "steps_to_result": [None if s is None else int(s) for s in steps],
        },
        schema={"batch_size": pl.Int64, "seed": pl.Int64, "steps_to_result": pl.Int64},
    )


@pytest.mark.parametrize("critical", [100.0, 2_000.0])
def test_hyperbola_data_returns_its_critical_batch_size(critical):
    steps = 50 * (1 + critical / POWERS)
    fit = fit_hyperbola(POWERS, steps[None])
    assert fit.critical[0] == pytest.approx(critical, rel=FITTED)
    assert fit.least_steps[0] == pytest.approx(50, rel=FITTED)
    # The defining property: at B_crit both the steps and the examples are twice the least.
    at_critical = 50 * (1 + critical / critical)
    assert at_critical == 2 * 50 and at_critical * critical == 2 * (50 * critical)
    found = noise_critical_batch_size(exact(POWERS, steps))
    assert (found.relation, found.name) == ("=", "noise_critical_batch_size")
    assert found.value == pytest.approx(critical, rel=FITTED)


@pytest.mark.parametrize("critical", [100.0, 2_000.0])
def test_on_a_hyperbola_the_headline_is_a_fifth_of_its_bend_wherever_the_points_begin(
    critical,
):
    steps = 50 * (1 + critical / POWERS)
    for start in (0, 3, 5):
        points = exact(POWERS[start:], steps[start:])
        found = perfect_scaling_limit(points)
        if POWERS[start] <= 0.2 * critical:
            assert found.value == pytest.approx(0.2 * critical, rel=BETWEEN_SEARCHES)
            assert hyperbola_limit(points).value == pytest.approx(found.value, rel=BETWEEN_SEARCHES)
            assert (found.relation, found.low) == ("=", None)
        else:
            assert (found.relation, found.value) == ("<=", POWERS[start])
        # The anchored one starts at B0, not at 0, and moves with it.
        anchored = anchored_limit(points).value
        assert anchored == pytest.approx(0.2 * critical + 1.2 * POWERS[start], rel=ROUNDING)
    ten = perfect_scaling_limit(exact(POWERS, steps), overhead=0.1)
    assert ten.value == pytest.approx(0.1 * critical, rel=BETWEEN_SEARCHES)
    flat = flat_start(exact(POWERS, steps))
    assert flat.value == pytest.approx(4 * critical, rel=BETWEEN_SEARCHES)


def test_an_error_of_the_smallest_batch_size_moves_the_anchored_end_and_hardly_the_headline():
    steps = 50 * (1 + 256 / POWERS)
    steps[0] *= 1.15
    limit, hyperbola, anchored = (
        of(exact(POWERS, steps)).value / (0.2 * 256)
        for of in (perfect_scaling_limit, hyperbola_limit, anchored_limit)
    )
    assert hyperbola == pytest.approx(1, rel=OF_A_NOISY_POINT)
    assert abs(limit - 1) < OF_THE_SHARPNESS and anchored > 1 + 2 * OF_THE_SHARPNESS


def test_several_searches_give_their_median_and_their_exact_range():
    curves = [50 * (1 + critical / POWERS) for critical in (80, 100, 110, 130, 200, 90)]
    found = noise_critical_batch_size(exact(POWERS, *curves))
    assert found.value == pytest.approx(105, rel=BETWEEN_SEARCHES) and found.searches == 6
    assert (found.low, found.high) == pytest.approx((80, 200), rel=BETWEEN_SEARCHES)
    assert found.coverage == 1 - 2**-5
    limit = perfect_scaling_limit(exact(POWERS, *curves))
    assert (limit.low, limit.value, limit.high) == pytest.approx((16, 21, 40), rel=BETWEEN_SEARCHES)


def test_a_search_without_an_answer_bounds_nothing():
    steps = 50 * (1 + 100 / POWERS)
    none = np.full(len(POWERS), np.inf)
    found = noise_critical_batch_size(exact(POWERS, steps, steps, none))
    assert found.value == pytest.approx(100, rel=FITTED)
    assert (found.low, found.high) == (0, np.inf) and "1 of 3 searches" in found.note
    assert noise_critical_batch_size(exact(POWERS, steps, none, none)).value is None


def test_the_batch_size_of_the_fewest_examples():
    found = fewest_examples(exact([1, 2, 4], [100, 40, 25], [100, 60, 20], [100, 49, 30]))
    assert (found.value, found.low, found.high) == (2, 2, 4)
    assert fewest_examples(exact([1, 2], [np.inf, np.inf])).value is None


def test_the_fit_is_that_of_a_general_least_squares_solver():
    from scipy.optimize import least_squares

    generator = np.random.default_rng(0)
    steps = 30 * (1 + 200 / POWERS) * np.exp(0.1 * generator.standard_normal(len(POWERS)))

    def residual(log_parameters):
        least, critical = np.exp(log_parameters)
        return np.log(steps) - np.log(least * (1 + critical / POWERS))

    reference = np.exp(least_squares(residual, np.log([10.0, 50.0])).x)
    fit = fit_hyperbola(POWERS, steps[None])
    assert [fit.least_steps[0], fit.critical[0]] == pytest.approx(reference, rel=BETWEEN_SEARCHES)


def test_rows_with_unreached_batch_sizes_fit_the_rest():
    steps = np.stack([50 * (1 + 100 / POWERS)] * 2)
    steps[1, [0, 5, 16]] = np.inf
    assert fit_hyperbola(POWERS, steps).critical == pytest.approx([100, 100], rel=FITTED)


def test_perfect_scaling_throughout_gives_lower_bounds():
    curve = exact(POWERS, 2.0**20 / POWERS)
    for of in (perfect_scaling_limit, noise_critical_batch_size, flat_start, anchored_limit):
        found = of(curve)
        assert (found.relation, found.value) == (">=", POWERS[-1])
    (fit,) = (fitted(points) for points in curve)
    assert fit.least_examples == pytest.approx(2.0**20, rel=STRAIGHT)


def test_flat_steps_give_an_upper_bound():
    found = noise_critical_batch_size(exact(POWERS, np.full(len(POWERS), 70.0)))
    assert (found.relation, found.value) == ("<=", 1.0)


def test_an_unreached_batch_size_after_perfect_scaling_is_a_lower_bound():
    found = anchored_limit(exact([4, 8, 16, 32], [80, 40, np.inf, np.inf]))
    assert (found.relation, found.value) == (">=", 8)


def test_too_few_batch_sizes_say_so():
    assert perfect_scaling_limit([]).value is None
    assert "two batch sizes" in anchored_limit(exact([4, 8], [5, np.inf])).note
    for of in (noise_critical_batch_size, perfect_scaling_limit, flat_start):
        assert "three batch sizes" in of(exact([4, 8], [5, 4])).note


def test_six_simulated_searches_hold_the_truth():
    truth = Truth()
    record = make_record(make_study(POWERS_OF_TWO, trials=24, seeds=range(6)), truth)
    found = summarise(record).critical
    # The best of 24 trials is 0-10 % slower than the law's best; the fit moves by little.
    assert found.noise.value == pytest.approx(truth.critical, rel=OF_A_NOISY_POINT)
    assert found.hyperbola.value == pytest.approx(0.2 * truth.critical, rel=OF_A_NOISY_POINT)
    assert found.limit.value == pytest.approx(0.2 * truth.critical, rel=OF_THE_SHARPNESS)
    for estimate in (found.noise, found.hyperbola, found.limit, found.flat):
        assert estimate.low < estimate.value < estimate.high
    assert found.limit.low < 0.2 * truth.critical < found.limit.high
    assert found.noise.value == pytest.approx(5 * found.hyperbola.value)
    width = found.hyperbola.high / found.hyperbola.low
    assert width < found.anchored.high / found.anchored.low


def scaled(batch_sizes, steps):
    table = table_of(batch_sizes, steps)
    fits = {seed: fitted(points) for seed, points in points_of(table).items()}
    return scaling(table, fits)


def test_regimes_have_the_borders_of_the_fitted_curve():
    """B_noise = 80: perfect to 16, maximal from 320 on (both included in what is better)."""
    sizes = [1, 8, 16, 17, 160, 320, 321, 1000]
    steps = [round(1000 * (1 + 80 / b)) for b in sizes]
    found = scaled(sizes, steps)["regime"].to_list()
    assert found == [PERFECT] * 2 + found[2:3] + [DIMINISHING] * 2 + found[5:6] + [FLAT] * 2
    assert scaled([1, 2, 4, 8], [1024, 512, 256, 128])["regime"].to_list() == [PERFECT] * 4
    assert scaled([1, 2, 4, 8], [100] * 4)["regime"].to_list() == [FLAT] * 4


@pytest.mark.parametrize("seed", range(20))
def test_regimes_are_in_order_whatever_the_luck_of_the_points(seed):
    """Point by point this curve would read perfect, maximal, diminishing, diminishing."""
    luck = np.exp(0.3 * np.random.default_rng(seed).standard_normal(len(POWERS)))
    steps = np.ceil(50 * (1 + 256 / POWERS) * luck)
    places = [REGIMES.index(name) for name in scaled(POWERS, steps)["regime"]]
    assert places == sorted(places)


def test_lines_and_overheads_by_the_smallest_batch_size_and_by_the_fit():
    found = scaled([1, 2, 4, 8, 16], [None, 100, 60, None, 30])
    assert found["perfect_scaling_steps"].to_list() == [None, 100, 50, 25, 12.5]
    assert found["overhead"].to_list() == [None, 0, pytest.approx(0.2), None, pytest.approx(1.4)]
    (fit,) = (fitted(points) for points in points_of(found).values())
    assert found["fitted_line_steps"].to_list() == pytest.approx(
        [fit.least_examples / b for b in (1, 2, 4, 8, 16)]
    )
    assert found["fitted_overhead"][1] == pytest.approx(200 / fit.least_examples - 1)
    assert [found["regime"][at] for at in (0, 3)] == [None, None]


def test_too_few_points_have_an_anchored_line_and_no_regime():
    row = scaled([4], [10]).row(0, named=True)
    assert (row["regime"], row["overhead"], row["fitted_overhead"]) == (None, 0.0, None)


def test_definitions_agree_on_a_hyperbola_and_say_what_they_rest_on():
    steps = 50 * (1 + 256 / POWERS)
    table = definition_table(exact(POWERS, steps))
    assert len(table) == 11 * 4
    for curve in ("free sharpness", "hyperbola"):
        own = table.filter(pl.col("curve") == curve)
        wanted = (256 * own["overhead"]).to_list()
        assert own["value"].to_list() == pytest.approx(wanted, rel=BETWEEN_SEARCHES)
    convex = table.filter((pl.col("curve") == "convex curve") & (pl.col("overhead") > 0.3))
    assert convex["value"].to_list() == pytest.approx(
        (256 * convex["overhead"]).to_list(), rel=INTERPOLATED
    )
    # Anchored at the second point the line lies higher, and the end further right.
    points = table.filter((pl.col("curve") == "point by point") & (pl.col("overhead") == 0.2))
    first, second = points["value"]
    assert 0.2 * 256 < first < second
    assert definition_table(exact([4, 8], [5, np.inf]))["value"].null_count() == 44


def test_a_batch_that_grows_has_no_critical_size():
    record = make_record(make_study())
    assert summarise(record).critical.limit.value is not None
    described = {**record.study["study"], "batch_size_schedule": "smith"}
    growing = dataclasses.replace(record, study={**record.study, "study": described})
    found = summarise(growing).critical
    for critical in (
        found.limit,
        found.hyperbola,
        found.noise,
        found.anchored,
        found.flat,
        found.convex,
        found.cheapest,
    ):
        assert critical.value is None and "does not grow within a trial" in critical.note
