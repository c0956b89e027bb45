"""Coordinates that an optimizer declares are those in which its searches are made."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from support.engine_factory import tiny_study
from support.planted import SPACE, valley
from support.tolerances import FLOAT64, FLOAT64_ROUNDING

from experiments.search.record import Ended
from experiments.search.samplers.coordinates import coordinates
from experiments.search.search import Search
from experiments.spec.space import SCALES, Choice, Real, from_json
from experiments.spec.trial import Status
from experiments.spec.user_search import UserSearch
from optimizers import OPTIMIZERS, Coordinate
from optimizers.coordinates import COORDINATES, EFFECTIVE_RATE
from workloads.models.dense import DenseNet

MOMENTUM = OPTIMIZERS["momentum"]


def users_rule(**fields):
    """Momentum, whose decay a user calls mu."""
    rate, decay = MOMENTUM.hyperparameters
    rows = (rate, dataclasses.replace(decay, name="mu"))
    return dataclasses.replace(MOMENTUM, name="mine", hyperparameters=rows, **fields)


def searched(optimizer, sampler):
    """The points of a search of the planted valley, round by round."""
    decay = OPTIMIZERS[optimizer].hyperparameters[1].name
    space = {"learning_rate": SPACE["learning_rate"], decay: SPACE["momentum"]}
    study = tiny_study(optimizer=optimizer, sampler=sampler, stop="never", trials=12, space=space)
    rounds, ended = [], {}
    while counts := Search(study, 0, "", recorded=rounds, ended=ended).due():
        search = Search(study, 0, "", recorded=rounds, ended=ended)
        rounds.append(search.propose(counts))
        for batch_size, points in rounds[-1].proposal.points.items():
            first = search.proposed(batch_size)
            for index, point in enumerate(points, first):
                outcome, steps = valley(batch_size, point)
                status = Status.INFEASIBLE if outcome == "infeasible" else Status.COMPLETE
                passed = int(steps) if outcome == "reached" else None
                ended[batch_size, index] = Ended(status, 60, passed, 60)
    return [dict(found.proposal.points) for found in rounds]


@pytest.mark.parametrize("sampler", ["rounds", "gp"])
def test_a_users_rule_is_searched_in_the_coordinates_that_it_declares(monkeypatch, sampler):
    effective = Coordinate("learning_rate", "mu", "log", "reverse_log")
    monkeypatch.setitem(OPTIMIZERS, "mine", users_rule(coordinates=(effective,)))
    monkeypatch.setitem(OPTIMIZERS, "plain", users_rule(coordinates=()))
    momentums = searched("momentum", sampler)
    assert len(momentums) >= 5
    assert searched("mine", sampler) == momentums
    plain = searched("plain", sampler)
    assert plain[0] == momentums[0] and plain[1:] != momentums[1:]


def test_a_rule_that_declares_nothing_has_the_effective_rate_and_epsilon_over_the_rate():
    terms = {"learning_rate": ("momentum", 1.0), "epsilon": ("learning_rate", -1.0)}
    spans = {
        "log": lambda r: np.log(r.high / r.low),
        "reverse_log": lambda r: np.log1p(-r.low) - np.log1p(-r.high),
    }
    combined = set()
    for rule in OPTIMIZERS.values():
        space = {name: from_json(data) for name, data in rule.spaces(100).items()}
        names = sorted(space)
        expected = np.eye(len(names))
        for name, (other, factor) in terms.items():
            if {name, other} <= space.keys():
                share = factor * spans[space[other].scale](space[other])
                share /= spans[space[name].scale](space[name])
                row = expected[names.index(name)]
                row[names.index(other)] = share
                row /= 1 + abs(share)
                combined.add((name, rule.name))
        found = coordinates(space, rule.coordinates).forward
        np.testing.assert_allclose(found, expected, rtol=FLOAT64_ROUNDING)
    assert {("learning_rate", "nesterov"), ("epsilon", "adam"), ("epsilon", "shampoo")} <= combined


def test_a_coordinate_on_a_plain_axis_adds_it_in_its_own_unit():
    space = {"a": Real(0.0, 2.0), "b": Real(1.0, 5.0)}
    linear = coordinates(space, [Coordinate("a", "b", "linear", "linear", -0.5)])
    points = np.array([[0.5 * (x - 0.0), 0.25 * (y - 1.0)] for x, y in [(0, 1), (1, 3), (2, 5)]])
    found = linear.of(points)  # along a = b / 2 - 1 / 2
    np.testing.assert_allclose(found[:, 0], found[0, 0], atol=FLOAT64)


def test_modules_are_searched_in_what_all_their_optimizers_declare(monkeypatch):
    monkeypatch.setitem(OPTIMIZERS, "mine", users_rule(coordinates=()))
    rates = {"learning_rate": Real(1e-3, 1.0, "log")}
    modules = {"build": DenseNet, "workload": "digits_fc"}
    assert UserSearch(rates, objective=valley).coordinates == COORDINATES
    assert UserSearch(rates, optimizer="adam", **modules).coordinates == COORDINATES
    assert UserSearch(rates, optimizer="mine", **modules).coordinates == ()
    several = {**rates, "optimizer": Choice(("momentum", "mine"))}
    assert UserSearch(several, **modules).coordinates == ()


@pytest.mark.parametrize(
    ("coordinate", "line"),
    [
        (lambda: Coordinate("mu", "learning_rat"), "did you mean 'learning_rate'"),
        (lambda: Coordinate("mu", "learning_rate", "cubic"), "a scale must be one of linear, log"),
        (lambda: Coordinate("mu", "learning_rate", factor=0), "factor must be finite and not 0"),
        (lambda: Coordinate("mu", "mu"), "other must be another hyperparameter, got 'mu'"),
    ],
)
def test_a_coordinate_that_a_rule_cannot_have_is_refused_in_one_line(coordinate, line):
    with pytest.raises(ValueError, match=line) as raised:
        users_rule(coordinates=(coordinate(),))
    assert "\n" not in str(raised.value)


def test_coordinates_that_refer_to_each_other_are_refused():
    """Both together might span nothing: rate / mu and mu / rate are one."""
    both = (Coordinate("learning_rate", "mu", factor=-1), Coordinate("mu", "learning_rate"))
    with pytest.raises(ValueError, match="coordinates refer to each other: "):
        users_rule(coordinates=both)
    with pytest.raises(ValueError, match="coordinates must be one of each hyperparameter"):
        users_rule(coordinates=(both[0], Coordinate("learning_rate", "mu", factor=2.0)))


def test_scales_are_those_of_a_range():
    for scale in SCALES:
        assert dataclasses.replace(EFFECTIVE_RATE, scale=scale).scale == scale
