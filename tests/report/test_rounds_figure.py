"""The figure of rounds: each trial at its value, in its round, with the box it came from."""

from __future__ import annotations

import dataclasses

import pytest
from support.records_factory import make_record, make_study

from experiments.analysis.summary import summarise
from experiments.report.facts import facts
from experiments.report.figures import render
from experiments.report.rounds_figures import rounds_figures
from experiments.search.record import Round
from experiments.search.samplers.base import Proposal
from experiments.spec.space import Real

SPACE = {"learning_rate": Real(1e-4, 1.0, "log"), "momentum": Real(0.5, 0.999, "reverse_log")}


def round_of(number, points, box, source):
    count = {b: (source,) * len(own) for b, own in points.items()}
    return Round(0, number, Proposal(points, dict.fromkeys(points, box), count)).to_json()


def searched(sampler="rounds", rounds=()):
    record = make_record(make_study((8, 32), trials=3, space=SPACE, sampler=sampler))
    return summarise(dataclasses.replace(record, study={**record.study, "rounds": list(rounds)}))


def test_every_trial_of_the_first_search_stands_in_its_round_with_its_box():
    whole, wider = ((0.0, 1.0), (0.0, 1.0)), ((0.0, 1.25), (0.0, 1.0))
    first = {8: ((0.25, 0.0), (1.0, 0.5)), 32: ((0.5, 1.0),)}
    second = {8: ((1.25, 0.5),), 32: ((0.75, 0.5), (0.0, 0.0))}
    rounds = [round_of(0, first, whole, "quasi-random"), round_of(1, second, wider, "model")]
    other = {**round_of(0, first, whole, "quasi-random"), "seed": 7}
    (figure,) = rounds_figures(searched(rounds=[*rounds, other]))
    table = figure.table
    assert table.select("batch_size", "trial", "round", "source").rows() == [
        (8, 0, 1, "quasi-random"), (8, 1, 1, "quasi-random"), (32, 0, 1, "quasi-random"),
        (8, 2, 2, "model"), (32, 1, 2, "model"), (32, 2, 2, "model"),
    ]  # fmt: skip
    rates = table.filter(batch_size=8)["learning_rate"].to_list()
    assert rates == pytest.approx([1e-3, 1.0, 10.0])  # the last one beyond the space
    assert table["momentum"][2] == pytest.approx(0.999)
    ends = table.filter(batch_size=8, trial=2).select("learning_rate from", "learning_rate to")
    assert ends.row(0) == pytest.approx((1e-4, 10.0))
    places = table.filter(batch_size=8)["x"].to_list()
    assert places[0] == places[1] < 8 < places[2] < 16
    assert render(figure)["png"].startswith(b"\x89PNG")


def test_a_search_that_does_not_learn_has_none():
    assert rounds_figures(searched()) == []
    blocks = [round_of(n, {8: ((0.5, 0.5),)}, ((0.0, 1.0),) * 2, "quasi-random") for n in (0, 1)]
    assert rounds_figures(searched("halton", blocks)) == []


def test_the_facts_say_who_proposed_and_in_how_many_rounds():
    one = round_of(0, {8: ((0.5, 0.5),)}, ((0.0, 1.0),) * 2, "model")
    assert dict(facts(searched()))["Sampler"] == "rounds"
    assert dict(facts(searched(rounds=[one])))["Sampler"] == "rounds, in 1 round a search"
    two = [one, {**one, "round": 1}, {**one, "seed": 7}]
    assert dict(facts(searched(rounds=two)))["Sampler"] == "rounds, in 1 to 2 rounds a search"
