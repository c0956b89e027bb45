"""Importance of hyperparameters: the formula twice, planted ones found, chance told apart."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.records_factory import Truth, make_record, make_study

from experiments.analysis.importance import GRID, chance, importance, pearson_divergence
from experiments.analysis.summary import summarise
from experiments.analysis.view import View
from experiments.report import importance_figure
from experiments.spec.space import Choice, Real

EXACT = 1e-10


def twin(positions, best, grid):
    """The integral of the paper, density by density, in plain Python and float64."""

    def density(x, points):
        spread = math.sqrt(sum((p - sum(points) / len(points)) ** 2 for p in points) / len(points))
        width = max(spread * len(points) ** -0.2, 0.03)
        total = 0.0
        for p in points:
            whole = sum(math.exp(-0.5 * ((u - p) / width) ** 2) for u in grid) / len(grid)
            total += math.exp(-0.5 * ((x - p) / width) ** 2) / whole
        return total / len(points)

    found = 0.0
    for x in grid:
        every = density(x, positions)
        found += (density(x, best) / every - 1) ** 2 * every
    return found / len(grid)


def test_the_divergence_is_that_of_the_paper():
    positions = np.random.default_rng(0).uniform(size=20)
    chosen = np.zeros((1, 20), bool)
    chosen[0, [2, 3, 5, 7, 11]] = True
    grid = [(i + 0.5) / GRID for i in range(GRID)]
    expected = twin(list(positions), list(positions[chosen[0]]), grid)
    assert pearson_divergence(positions, chosen)[0] == pytest.approx(expected, rel=EXACT)


def test_a_choice_is_counted_and_agreeing_densities_do_not_diverge():
    places = np.array([0.25] * 8 + [0.75] * 8)
    alike, apart = np.zeros(16, bool), np.zeros(16, bool)
    alike[[0, 1, 8, 9]], apart[:4] = True, True
    found = pearson_divergence(places, np.stack([alike, apart]), 2)
    assert found[0] == 0
    # Shares (4 + 1/2) / 5 and (0 + 1/2) / 5 against one half each.
    assert found[1] == pytest.approx(2 * (0.9 - 0.5) ** 2 / 0.5)
    assert pearson_divergence(places, np.ones((1, 16), bool))[0] == 0


@pytest.fixture(scope="module")
def searched():
    """Forty trials a batch size: the rate matters, a warmup and a decay do not."""
    space = {
        "learning_rate": Real(1e-3, 10.0, "log"),
        "momentum": Real(0.5, 0.55, "reverse_log"),
        "warmup_steps": Real(1.0, 20.0),
    }
    study = make_study((4, 64), trials=20, seeds=(0, 1), space=space, sampler="random")
    return make_record(study, Truth(diverges_above=1e9))


def test_the_rate_that_matters_is_told_from_what_does_not(searched):
    table = importance(View(searched))
    assert set(table["batch_size"]) == {4, 64} and set(table["trials"]) == {40}
    for rows in table.partition_by("batch_size"):
        shares = dict(rows.select("hyperparameter", "importance").rows())
        assert sum(shares.values()) == pytest.approx(1)
        assert shares["learning_rate"] > 0.6
        beyond = rows.filter("beyond")["hyperparameter"].to_list()
        assert beyond == ["learning_rate"]


def test_by_chance_alone_one_in_twenty_is_beyond_it():
    """200 searches whose score is noise: the level of the line is what it says."""
    generator = np.random.default_rng(5)
    above = 0
    for _ in range(200):
        places = generator.uniform(size=40)
        chosen = np.zeros((60, 40), bool)
        for row in chosen:
            row[generator.choice(40, 6, replace=False)] = True
        found = pearson_divergence(places, chosen)
        above += found[0] > chance(found[1:])
    assert 0.015 < above / 200 < 0.10


def test_few_trials_and_one_hyperparameter_have_no_row():
    assert importance(View(make_record(make_study((4, 64), trials=2)))).is_empty()
    alone = make_study((4,), trials=30, space={"learning_rate": Real(1e-3, 10.0, "log")})
    assert importance(View(make_record(alone))).is_empty()


def test_the_figure_names_what_is_beyond_chance(searched):
    figure = importance_figure.importance(summarise(searched))
    assert figure.name == "importance" and "not a cause" in figure.caption
    chart = figure.chart.to_dict()
    rows = chart["data"]["values"]
    assert {row["hyperparameter"] for row in rows if row["beyond"]} == {"learning_rate"}
    opacity = chart["encoding"]["opacity"]["condition"]
    assert opacity["test"] == "datum.beyond" and opacity["value"] > 0.9
    few = importance_figure.importance(summarise(make_record(make_study((4, 64), trials=2))))
    assert few.table.is_empty() and "needs 16 trials" in str(few.chart.to_dict())


def test_a_searched_choice_takes_part():
    space = {"learning_rate": Real(1e-3, 10.0, "log"), "momentum": Choice((0.0, 0.9))}
    study = make_study((4,), trials=30, space=space, sampler="random")
    found = importance(View(make_record(study, Truth(diverges_above=1e9))))
    assert set(found["hyperparameter"]) == {"learning_rate", "momentum"}
