"""Regimes, the perfect-scaling limit and the noise critical batch size, on data of known truth."""

import dataclasses

import numpy as np
import polars as pl
import pytest
from support.records_factory import Truth, make_record, make_study

from experiments.analysis.critical_batch_size import (
    DIMINISHING,
    FLAT,
    PERFECT,
    doubling_saving,
    noise_critical_batch_size,
    perfect_scaling_limit,
    scaling,
)
from experiments.analysis.hyperbola import fit_hyperbola
from experiments.analysis.summary import summarise

POWERS = 2.0 ** np.arange(0, 17)


def exact(batch_sizes, steps):
    """One trial a batch size, so that every resample is the curve itself."""
    return {int(b): np.array([s]) for b, s in zip(batch_sizes, steps, strict=True)}


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
    assert fit.critical[0] == pytest.approx(critical, rel=1e-4)
    assert fit.least_steps[0] == pytest.approx(50, rel=1e-4)
    # The defining property: at B_crit both the steps and the examples are twice the least.
    at_critical = 50 * (1 + critical / critical)
    assert at_critical == 2 * 50 and at_critical * critical == 2 * (50 * critical)
    found = noise_critical_batch_size(exact(POWERS, steps))
    assert (found.relation, found.name) == ("=", "noise_critical_batch_size")
    assert found.value == pytest.approx(critical, rel=1e-4)


@pytest.mark.parametrize("critical", [100.0, 2_000.0])
def test_the_perfect_scaling_limit_of_a_hyperbola_is_a_fifth_of_its_critical_batch_size(critical):
    steps = 50 * (1 + critical / POWERS)
    found = perfect_scaling_limit(exact(POWERS, steps))
    exactly = 0.2 * critical + 1.2 * POWERS[0]  # the line starts at B0 = 1, not at 0
    assert found.value == pytest.approx(exactly, rel=1e-9) and found.relation == "="
    assert found.value == pytest.approx(0.2 * critical, rel=0.08)
    ten = perfect_scaling_limit(exact(POWERS, steps), overhead=0.1)
    assert ten.value == pytest.approx(0.1 * critical + 1.1 * POWERS[0])


def test_the_fit_is_that_of_a_general_least_squares_solver():
    from scipy.optimize import least_squares

    generator = np.random.default_rng(0)
    steps = 30 * (1 + 200 / POWERS) * np.exp(0.1 * generator.standard_normal(len(POWERS)))

    def residual(log_parameters):
        least, critical = np.exp(log_parameters)
        return np.log(steps) - np.log(least * (1 + critical / POWERS))

    reference = np.exp(least_squares(residual, np.log([10.0, 50.0])).x)
    fit = fit_hyperbola(POWERS, steps[None])
    assert [fit.least_steps[0], fit.critical[0]] == pytest.approx(reference, rel=1e-3)


def test_rows_with_unreached_batch_sizes_fit_the_rest():
    steps = np.stack([50 * (1 + 100 / POWERS)] * 2)
    steps[1, [0, 5, 16]] = np.inf
    assert fit_hyperbola(POWERS, steps).critical == pytest.approx([100, 100], rel=1e-4)


def test_perfect_scaling_throughout_gives_lower_bounds():
    curve = exact(POWERS, 2.0**20 / POWERS)
    for found in (perfect_scaling_limit(curve), noise_critical_batch_size(curve)):
        assert (found.relation, found.value) == (">=", POWERS[-1]) and np.isinf(found.high)


def test_flat_steps_give_an_upper_bound():
    found = noise_critical_batch_size(exact(POWERS, np.full(len(POWERS), 70.0)))
    assert (found.relation, found.value) == ("<=", 1.0)


def test_an_unreached_batch_size_after_perfect_scaling_is_a_lower_bound():
    found = perfect_scaling_limit(exact([4, 8, 16, 32], [80, 40, np.inf, np.inf]))
    assert (found.relation, found.value) == (">=", 8)


def test_too_few_batch_sizes_say_so():
    assert perfect_scaling_limit({}).value is None
    assert "two batch sizes" in perfect_scaling_limit(exact([4, 8], [5, np.inf])).note
    assert "three batch sizes" in noise_critical_batch_size(exact([4, 8], [5, 4])).note


def test_bootstrap_intervals_hold_the_truth_of_a_simulated_study():
    truth = Truth()
    record = make_record(make_study(tuple(2**k for k in range(11)), trials=40), truth)
    limit, noise = summarise(record).critical[0]
    assert noise.low < noise.value < noise.high
    # The best of 40 trials is 0-10 % slower than the law's best; both estimates move by little.
    assert noise.value == pytest.approx(truth.critical, rel=0.3)
    assert limit.value == pytest.approx(0.2 * truth.critical + 1.2, rel=0.6)
    assert limit.low <= limit.value <= limit.high
    assert 2 < noise.value / limit.value < 12


@pytest.mark.parametrize(
    ("steps", "regimes"),
    [
        # overhead 0, 20 % exactly, 21 %; then doubling saves 9.9 %: flat from there
        ([1000, 600, 303, 273], [PERFECT, PERFECT, FLAT, FLAT]),
        # doubling saves exactly 10 %: that is not less than 10 %
        ([1000, 1000, 900, 810], [PERFECT, DIMINISHING, DIMINISHING, DIMINISHING]),
        ([1000, 500, 250, 125], [PERFECT] * 4),
        ([100, 100, 100, 100], [PERFECT, FLAT, FLAT, FLAT]),
    ],
)
def test_regimes_have_their_stated_borders(steps, regimes):
    assert scaling(table_of([1, 2, 4, 8], steps))["regime"].to_list() == regimes


def test_the_perfect_scaling_line_starts_at_the_smallest_batch_size_reached():
    found = scaling(table_of([1, 2, 4, 8, 16], [None, 100, 60, None, 30]))
    assert found["perfect_scaling_steps"].to_list() == [None, 100, 50, 25, 12.5]
    assert found["overhead"].to_list() == [None, 0, pytest.approx(0.2), None, pytest.approx(1.4)]
    assert found["regime"].to_list()[::3] == [None, None]


def test_doubling_on_a_grid_that_does_not_double_follows_the_power_law_between():
    batch_sizes = np.array([2.0, 8.0, 32.0, 55.0])
    steps = 1000 * batch_sizes**-0.5
    np.testing.assert_allclose(doubling_saving(batch_sizes, steps), 1 - 2**-0.5)


def test_a_single_batch_size_is_perfect_scaling_with_no_doubling_known():
    row = scaling(table_of([4], [10])).row(0, named=True)
    assert (row["regime"], row["overhead"], row["doubling_saving"]) == (PERFECT, 0.0, None)


def test_a_batch_that_grows_has_no_critical_size():
    record = make_record(make_study())
    assert summarise(record).critical[0][0].value is not None
    described = {**record.study["study"], "batch_size_schedule": "smith"}
    growing = dataclasses.replace(record, study={**record.study, "study": described})
    for critical in summarise(growing).critical[0]:
        assert critical.value is None and "does not grow within a trial" in critical.note
