"""What a rule would have cost: interpolation, regret and extents on surfaces that are known."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from support.records_factory import MemoryRecord, describe, make_record, make_study, measurements

from experiments.analysis.intervals import NO_ANSWER, Answer
from experiments.analysis.regret import (
    extents,
    measured_regret,
    near_best,
    regret_map,
    regret_table,
)
from experiments.analysis.rules import rules_from, rules_of
from experiments.analysis.summary import summarise
from experiments.analysis.trial_surface import TrialSurface
from experiments.analysis.view import view_of
from experiments.spec.space import Real
from experiments.spec.trial import Transfer

INTERPOLATED = 0.01
"""Between two trials the logarithm of the steps is taken to be straight."""

RATE = {"learning_rate": Real(1e-3, 1e3, "log")}
RATES = [10.0**k for k in (-3, -2, -1, 0, 1, 2, 3)]


def planted(best_rate, *, seeds=(0,), diverges_above=math.inf, sizes=(1, 10, 100, 1000)):
    """Steps 100 times 2^(decades from the best rate of the batch size); a trial a decade."""
    study = make_study(sizes, trials=len(RATES), seeds=seeds, space=RATE, step_budget=10_000,
                       fixed={"momentum": 0.0})  # fmt: skip
    trials, evaluations = [], []
    for seed in seeds:
        for b in sizes:
            for index, rate in enumerate(RATES):
                steps = round(100 * 2 ** abs(math.log10(rate / best_rate(b, seed))))
                diverged = rate > diverges_above
                row = {
                    "batch_size": b, "seed": seed, "trial": index, "identity": "", "message": "",
                    "status": "INFEASIBLE" if diverged else "COMPLETE", "plan": 0,
                    "train_steps": study.length(b), "steps": study.length(b), "seconds": 0.1,
                    "learning_rate": rate, "momentum": 0.0, "warmup_steps": 0.0,
                }  # fmt: skip
                trials.append(row)
                grid = [1, steps - 1, steps]
                evaluations.append(measurements(b, seed, index, grid, [0.9, 0.5, 0.05]))
    return MemoryRecord(describe(study), pl.DataFrame(trials), pl.concat(evaluations))


def regrets(record, base, rule):
    table = regret_table(rules_from(view_of(record)), base)
    found = table.filter(pl.col("rule") == rule)
    return dict(found.select("batch_size", "regret").iter_rows())


def test_the_rule_that_is_true_has_no_regret_and_others_what_the_surface_says():
    """The best rate is 0.01 B: linear is right, square root half a decade short a decade."""
    record = planted(lambda b, _: 0.01 * b)
    assert regrets(record, 1, "linear") == pytest.approx({1: 0, 10: 0, 100: 0, 1000: 0})
    # after 1, 2, 3 decades the square root rule is 1/2, 1, 3/2 decades short: 2^(d/2) - 1,
    # the half of it between two trials, whose logarithm is interpolated
    wanted = {1: 0.0, 10: 2**0.5 - 1, 100: 1.0, 1000: 2**1.5 - 1}
    assert regrets(record, 1, "square_root") == pytest.approx(wanted, rel=INTERPOLATED)
    assert regrets(record, 1, "none") == pytest.approx({1: 0, 10: 1, 100: 3, 1000: 7})


def test_a_rule_goes_both_ways_and_leaves_the_trials():
    record = planted(lambda b, _: 1.0)
    assert regrets(record, 100, "linear") == pytest.approx({1: 3, 10: 1, 100: 0, 1000: 1})
    far = planted(lambda b, _: 100.0)  # from the last trial but one: a thousandfold is outside
    found = regrets(far, 1, "linear")
    assert found[10] == pytest.approx(1) and found[100] is None and found[1000] is None


def test_what_diverged_is_not_interpolated_over():
    record = planted(lambda b, _: 0.01 * b, diverges_above=5.0)
    table = regret_table(rules_from(view_of(record)), 1).filter(pl.col("rule") == "linear")
    last = table.row(-1, named=True)
    assert last["batch_size"] == 1000 and last["steps"] is None and last["regret"] is None
    found = regret_map(rules_from(view_of(record)))
    row = found.filter(rule="none", base=1, batch_size=10).row(0, named=True)
    assert row["worse"] and row["regret"] == pytest.approx(1)


def test_extents_end_where_the_regret_passes_a_tenth():
    record = planted(lambda b, _: 1.0 if b < 1000 else 1000.0)
    found = {each.rule: each for each in extents(rules_from(view_of(record)), 10)}
    none = found["none"]
    assert (none.low, none.high, none.low_known, none.high_known) == (1, 100, True, True)
    linear = found["linear"]
    assert (linear.low, linear.high) == (10, 10) and linear.high_known


def test_every_search_is_judged_from_its_own_best_by_its_own_trials():
    """Seed s is best at 0.01 B 10^s: each search has its own line, and linear holds in all."""
    record = planted(lambda b, seed: 0.001 * b * 10**seed, seeds=(0, 1, 2), sizes=(1, 10, 100))
    table = regret_table(rules_from(view_of(record)), 1)
    linear = table.filter((pl.col("rule") == "linear") & (pl.col("batch_size") == 100))
    row = linear.row(0, named=True)
    assert (row["low"], row["median"], row["high"]) == pytest.approx((0.0, 0.0, 0.0))
    assert row["coverage"] == 0.75
    none = table.filter((pl.col("rule") == "none") & (pl.col("batch_size") == 100))
    row = none.row(0, named=True)
    assert (row["low"], row["median"], row["high"]) == pytest.approx((3.0, 3.0, 3.0))


def test_near_best_is_the_range_of_trials_within_a_tenth():
    record = planted(lambda b, _: 10**-0.05)  # between 0.1 and 1, next to 1
    found = near_best(rules_from(view_of(record))).row(0, named=True)
    assert (found["near_low"], found["near_high"], found["near_trials"]) == (1.0, 1.0, 1)
    even = planted(lambda b, _: 10**-0.5)
    found = near_best(rules_from(view_of(even))).row(0, named=True)
    assert (found["near_low"], found["near_high"], found["near_trials"]) == (0.1, 1.0, 2)


def surface(points, steps):
    points = np.asarray(points, float).reshape(len(steps), -1)
    names = tuple("ab"[: points.shape[1]])
    return TrialSurface(names, points, [Answer.exactly(s) for s in steps], pl.DataFrame())


def test_interpolation_in_a_plane_is_exact_for_a_plane_of_logarithms():
    def plane(x, y):
        return 2 ** (5 + 2 * x - 3 * y)

    generator = np.random.default_rng(0)
    points = [[0, 0], [0, 1], [1, 0], [1, 1], *generator.uniform(size=(8, 2))]
    made = surface(points, [plane(x, y) for x, y in points])
    for x, y in generator.uniform(size=(20, 2)):
        assert made.at(np.array([x, y])).high == pytest.approx(plane(x, y))
    assert made.at(np.array([1.1, 0.5])) == NO_ANSWER


def test_beside_a_trial_that_did_not_get_there_only_a_lower_end_is_known():
    made = surface([[0.0], [1.0]], [64.0, math.inf])
    assert made.at(np.array([0.5])) == Answer(64.0, math.inf)
    assert made.at(np.array([0.0])).high == pytest.approx(64.0)


@pytest.mark.parametrize(
    "points", [[[0.5, 0.5]] * 5, [[x, x] for x in (0, 0.2, 0.4, 1.0)], [[0, 0], [1, 1]]]
)
def test_trials_on_a_point_or_a_line_of_the_plane_give_nothing(points):
    assert surface(points, [10.0] * len(points)).at(np.array([0.3, 0.3])) == NO_ANSWER


def test_trials_that_lack_a_number_are_left_out():
    """As of an archive whose batch sizes searched other hyperparameters."""
    record = planted(lambda b, _: 0.01 * b)
    lacks = (pl.col("batch_size") == 10) & (pl.col("trial") > 4)
    rate = pl.when(~lacks).then(pl.col("learning_rate"))
    record = dataclasses.replace(record, trials=record.trials.with_columns(learning_rate=rate))
    rules = rules_from(view_of(record))
    assert len(rules.pooled[10].points) == 5 and len(rules.pooled[100].points) == 7
    assert regrets(record, 1, "linear")[10] == pytest.approx(0)


def test_rules_are_those_that_change_what_was_searched():
    plain = view_of(make_record(make_study((4, 64), trials=2)))
    assert rules_of(plain.question) == (
        "none", "linear", "square_root", "half_life", "linear+half_life", "square_root+half_life",
    )  # fmt: skip
    rate = view_of(planted(lambda b, _: 1.0))
    assert rules_of(rate.question) == ("none", "linear", "square_root")


def test_what_is_not_searched_and_would_change_is_not_known():
    """Half-life changes the momentum, which is fixed at 0.9 in every trial."""
    study = make_study((4, 64), trials=6, space=RATE, fixed={"momentum": 0.9})
    rules = rules_from(view_of(make_record(study)))
    assert rules.pooled_steps("half_life", 4, 64) == NO_ANSWER
    assert rules.pooled_steps("none", 4, 64) != NO_ANSWER


def ruled(record, steps_of, rule="linear"):
    """A study of one configuration trained with six seeds: steps_of(batch size, seed)."""
    base = record.study["study"]["batch_sizes"][0]
    study = make_study((1, 10, 100), trials=1, seeds=range(6), space={}, step_budget=10_000,
                       fixed={"learning_rate": 0.01, "momentum": 0.0},
                       rule=Transfer(rule, base))  # fmt: skip
    trials, evaluations = [], []
    for seed in range(6):
        for b in study.batch_sizes:
            steps = steps_of(b, seed)
            trials.append({
                "batch_size": b, "seed": seed, "trial": 0, "identity": "", "message": "",
                "status": "COMPLETE", "plan": 0, "train_steps": study.length(b),
                "steps": study.length(b), "seconds": 0.1, "learning_rate": 0.01 * b,
                "momentum": 0.0, "warmup_steps": 0.0,
            })  # fmt: skip
            last = 0.05 if steps < 10_000 else 0.5
            evaluations.append(measurements(b, seed, 0, [1, steps - 1, steps], [0.9, 0.5, last]))
    return MemoryRecord(describe(study), pl.DataFrame(trials), pl.concat(evaluations))


def test_a_trained_rule_is_compared_by_medians_and_the_range_of_their_ratio():
    record = planted(lambda b, _: 0.01 * b, seeds=tuple(range(6)))
    trained = ruled(record, lambda b, seed: 110 + 10 * seed)
    table = measured_regret(view_of(record), view_of(trained))
    row = table.filter(batch_size=10).row(0, named=True)
    assert row["regret"] == pytest.approx(135 / 100 - 1)
    # steps in (109, 110] to (159, 160]; tuned again in (99, 100]
    assert row["low"] == pytest.approx(109 / 100 - 1) and row["high"] == pytest.approx(160 / 99 - 1)
    assert row["coverage"] == pytest.approx(1 - 2 * 2**-5)


def test_a_rule_that_does_not_get_there_has_an_open_end():
    record = planted(lambda b, _: 0.01 * b, seeds=(0, 1))
    trained = ruled(record, lambda b, seed: 10_000 if seed < 2 else 200)
    row = measured_regret(view_of(record), view_of(trained)).row(0, named=True)
    assert math.isinf(row["high"]) and row["regret"] == pytest.approx(1.0)
    with pytest.raises(ValueError, match="goes by no rule"):
        measured_regret(view_of(record), view_of(record))
    with pytest.raises(ValueError, match="another goal"):
        measured_regret(view_of(record, 0.2), view_of(trained))


@pytest.mark.parametrize(("seeds", "said"), [((10, 11), "fresh seeds"), ((0, 1), "the same seeds")])
def test_the_report_draws_trained_rules(seeds, said):
    from experiments.report.figures import as_svg
    from experiments.report.rule_figures import rules, trained_table

    record = planted(lambda b, _: 0.01 * b, seeds=seeds)
    trained = ruled(record, lambda b, seed: 150 + seed)
    summary = dataclasses.replace(summarise(record), ruled=(view_of(trained),))
    assert f"trained by the rule with {said}" in rules(summary).caption
    assert as_svg(rules(summary)).startswith("<svg")
    assert trained_table(summary).rows[1][:5] == ("linear", "1", "10", "152", "100")
