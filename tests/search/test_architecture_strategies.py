"""Strategies: what all of them promise, what each one does, and planted optima they find."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from support.tolerances import FLOAT64

from experiments.search.architecture.cells import every_edge
from experiments.search.architecture.graph import Graph, Node
from experiments.search.architecture.space import Architecture, Space
from experiments.search.architecture.stacks import stacks
from experiments.search.architecture.strategies.base import ScoredCode, begin, rebuilt
from experiments.search.architecture.strategies.evolution import evolution
from experiments.search.architecture.strategies.progressive import level
from experiments.search.architecture.strategies.reinforce import Policy, probabilities, reinforce
from experiments.search.architecture.strategies.table import STRATEGIES, stated, strategy
from experiments.search.architecture.streams import Stream

DIFFERENCES = 1e-8
"""Central differences over 2e-6 in float64: the loss is rounded to some 1e-15."""


def unused(options):
    """Tests of codes alone need no graph."""
    del options
    return Architecture.of(network=Graph((Node("input"), Node("output", (0,)))))


def planted(choices: int, options: int) -> Space:
    return Space(
        "planted", tuple((f"c{i}", tuple(range(options))) for i in range(choices)), unused, "code"
    )


PLANTED = planted(8, 4)
TARGET = (3, 1, 0, 2, 2, 0, 1, 3)


def separable(code):
    """Choices that differ from the target; one optimum, every step towards it is better."""
    return float(sum(a != b for a, b in zip(code, TARGET, strict=True)))


def paired(code):
    """Two choices matter only together: half of the neighbours say nothing."""
    return float(
        sum(code[i : i + 2] != TARGET[i : i + 2] for i in range(0, len(code), 2))
        + 0.1 * separable(code)
    )


QUICK = {"bayesian": {"first": 5, "uniform": 20, "best": 2}}
"""Settings that spare the tests time."""


def quick(name):
    return strategy(name, **QUICK.get(name, {}))


def run(search, value, evaluations, count=1):
    while len(search.history.results) < evaluations:
        codes = search.ask(min(count, evaluations - len(search.history.results)))
        if not codes:
            break
        search = search.tell([ScoredCode(code, value(code)) for code in codes])
    return search


SPACES = [
    every_edge(3),
    stacks((8, 8, 3), 10, (1, 2, 3), ("dense", "conv3x3"), (4, 8), skips=True),
    PLANTED,
]


def worth(space, code):
    """Some value of an architecture; one in seven fails."""
    word = Stream("test worth", *code).word()
    return math.inf if word % 7 == 0 else (word % 1000) / 1000


@pytest.mark.parametrize("count", [1, 4])
@pytest.mark.parametrize("space", SPACES, ids=lambda space: space.name)
@pytest.mark.parametrize("name", STRATEGIES)
def test_a_search_is_a_function_of_its_seed_and_results(name, space, count):
    """The contract: replayed from any round it asks the same; nothing twice; only legal codes."""
    chosen = quick(name)
    search, rounds = begin(chosen, space, 7), []
    for _ in range(36 // count):
        codes = search.ask(count)
        assert 1 <= len(codes) <= count
        assert codes == search.ask(count)
        results = [ScoredCode(code, worth(space, code)) for code in codes]
        if len(rounds) % 9 == 4:
            again = rebuilt(quick(name), space, 7, rounds)
            assert again.ask(count) == codes
            assert repr(again.memory) == repr(search.memory)
        rounds.append(results)
        search = search.tell(results)
    keys = [space.key(result.code) for result in search.history.results]
    assert None not in keys
    assert len(set(keys)) == len(keys)
    other = run(begin(chosen, space, 8), lambda code: worth(space, code), 5)
    assert [r.code for r in other.history.results] != [r.code for r in rounds[0] + rounds[1]][:5]


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_finite_space_is_searched_whole_and_then_said_to_be_exhausted(name):
    space = every_edge(3, ("none", "skip", "bn_conv3x3"))
    search = run(begin(quick(name), space, 0), lambda code: worth(space, code), 100)
    assert len(search.history.results) == space.count() < 27
    assert search.ask(3) == []


@pytest.mark.parametrize("value", [separable, paired])
@pytest.mark.parametrize("name", [name for name, row in STRATEGIES.items() if row.adaptive])
def test_an_adaptive_strategy_beats_random_search_where_there_is_structure(name, value):
    """Means over seeds after 60 of 65,536 codes."""
    seeds = range(4 if name == "bayesian" else 12)
    found, blind = (
        [run(begin(s, PLANTED, seed), value, 60).history.best.value for seed in seeds]
        for s in (quick(name), strategy("random"))
    )
    assert np.mean(found) < np.mean(blind) - 0.5


def test_local_search_climbs_looks_at_every_neighbour_and_starts_again():
    search = run(begin(strategy("local"), PLANTED, 3), separable, 120)
    codes = [result.code for result in search.history.results]
    found = codes.index(TARGET)
    assert found < 60
    jump = next(i for i in range(found, len(codes)) if separable(codes[i]) > 1)
    assert set(PLANTED.neighbours(TARGET)) <= set(codes[:jump])


def test_local_search_moves_to_a_better_neighbour_that_is_known_without_evaluating_it():
    space = planted(2, 3)
    values = {(0, 0): 5.0, (0, 1): 4.0, (1, 0): 6.0, (2, 0): 6.0, (0, 2): 6.0, (1, 1): 3.0}
    search = begin(strategy("local"), space, 0)
    search = search.tell([ScoredCode((1, 1), 3.0), ScoredCode((0, 0), 5.0)])
    assert search.memory == ScoredCode((1, 1), 3.0)
    search = begin(strategy("local"), space, 0).tell([ScoredCode((0, 0), 5.0)])
    search = search.tell([ScoredCode((0, 1), 4.0), ScoredCode((1, 1), values[1, 1])])
    assert search.memory == ScoredCode((1, 1), 3.0)


def test_in_evolution_the_oldest_dies_though_it_is_the_best():
    space = planted(4, 6)
    chosen = evolution(population=3, sample=20)  # a tournament that the best wins
    results = [
        ScoredCode((0, 0, 0, 0), 0.0),
        ScoredCode((5, 5, 5, 5), 2.0),
        ScoredCode((3, 3, 3, 3), 3.0),
    ]
    young = rebuilt(chosen, space, 0, [[r] for r in results])
    assert sum(option != 0 for option in young.ask()[0]) == 1  # a child of the best
    old = young.tell([ScoredCode((5, 5, 5, 4), 2.5)])
    assert old.history.best == results[0]
    assert sum(option != 5 for option in old.ask()[0]) == 1  # a child of the best alive


def test_an_evolved_child_differs_from_its_parent_by_one_other_operation():
    space = every_edge(4, same="code")
    chosen = evolution(population=1, sample=1)
    search = begin(chosen, space, 1)
    for _ in range(30):
        child = search.ask()[0]
        if search.history.results:
            parent = search.history.results[-1].code
            assert sum(a != b for a, b in zip(child, parent, strict=True)) == 1
        search = search.tell([ScoredCode(child, 0.0)])


def log_probability(policy: Policy, code) -> float:
    p = probabilities(policy)
    return float(sum(np.log(p[c, option]) for c, option in enumerate(code)))


def entropy(policy: Policy) -> float:
    p = probabilities(policy)
    return float(-sum(x * np.log(x) for x in p.ravel() if x > 0))


@pytest.mark.parametrize("weight", [0.0, 0.7])
def test_reinforce_takes_adams_step_down_the_gradient_of_its_loss(weight):
    """Against finite differences; Adam's second step from moments zero has a known form."""
    space = Space("two", (("a", (0, 1, 2)), ("b", (0, 1))), unused, "code")
    search = begin(reinforce(rate=0.01, entropy=weight), space, 4)
    assert np.abs(search.memory.logits[np.isfinite(search.memory.logits)]).max() < 5e-3
    assert search.memory.logits[1, 2] == -np.inf
    first = search.tell([ScoredCode((0, 1), 2.0)]).memory
    second = search.tell([ScoredCode((0, 1), 2.0)]).tell([ScoredCode((2, 0), 1.0)]).memory
    # EMA of rewards -2 and -1 with decay 0.9, debiased: (0.09 * -2 + 0.1 * -1) / 0.19.
    advantage = -1.0 - (0.09 * -2.0 + 0.1 * -1.0) / 0.19

    def loss(logits: np.ndarray) -> float:
        moved = first._replace(logits=logits)
        return -advantage * log_probability(moved, (2, 0)) - weight * entropy(moved)

    gradient = np.zeros_like(first.logits)
    for place in np.argwhere(np.isfinite(first.logits)):
        step = np.zeros_like(first.logits)
        step[tuple(place)] = 1e-6
        gradient[tuple(place)] = (loss(first.logits + step) - loss(first.logits - step)) / 2e-6
    found = (second.first - 0.9 * first.first) / 0.1
    np.testing.assert_allclose(found, gradient, atol=DIFFERENCES)
    m, v = second.first / (1 - 0.9**2), second.second / (1 - 0.999**2)
    expected = first.logits - 0.01 * m / (np.sqrt(v) + 1e-8)
    np.testing.assert_allclose(second.logits, expected, rtol=FLOAT64)


def test_an_entropy_bonus_keeps_the_policy_broad():
    def left(weight):
        search = begin(reinforce(rate=0.1, entropy=weight), PLANTED, 0)
        return entropy(run(search, separable, 80).memory)

    assert left(0.0) < left(0.5)


def test_the_first_failures_tell_reinforce_nothing_and_later_ones_are_as_bad_as_the_worst():
    search = begin(reinforce(), PLANTED, 0)
    failed = search.tell([ScoredCode(TARGET, math.inf)])
    assert failed.memory.steps == 0
    told = failed.tell([ScoredCode((0,) * 8, 3.0)]).tell([ScoredCode((1,) * 8, math.inf)])
    same = failed.tell([ScoredCode((0,) * 8, 3.0)]).tell([ScoredCode((1,) * 8, 3.0)])
    np.testing.assert_array_equal(told.memory.logits, same.memory.logits)


def test_progressive_search_expands_the_best_codes_of_a_level():
    """All of level 1; then the beam's codes, each one choice more than a good one below."""
    space, beam = planted(4, 3), 3
    search = run(begin(strategy("progressive", beam=beam), space, 1), lambda code: float(
        sum(a != b for a, b in zip(code, (2, 1, 2, 0), strict=True))), 20)  # fmt: skip
    results = search.history.results
    levels = [level(result.code) for result in results]
    assert levels[: 4 * 2 + 3 * beam] == [1] * 8 + [2] * beam + [3] * beam + [4] * beam
    for reached in (2, 3, 4):
        below = sorted((r for r in results if level(r.code) == reached - 1), key=lambda r: r.value)
        best = [result.code for result in below[:beam]]
        for one in (r.code for r in results if level(r.code) == reached):
            assert any(sum(a != b for a, b in zip(one, other, strict=True)) == 1 for other in best)


def test_settings_are_stated_with_their_defaults():
    assert stated("evolution", {"population": 4}) == "population 4, sample 3"
    assert stated("random", {}) == ""
    with pytest.raises(ValueError, match="beam is a whole number from 1 on, got 0"):
        strategy("progressive", beam=0)


def test_a_grid_spreads_over_the_space():
    search = run(begin(strategy("grid"), PLANTED, 2), separable, 64)
    codes = np.array([result.code for result in search.history.results])
    for choice in range(3):  # the leading choices, in equal shares
        counts = np.bincount(codes[:, choice], minlength=4)
        assert counts.min() >= 12


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: strategy("evolutoin"), "did you mean 'evolution'"),
        (lambda: strategy("evolution", population=0), "from 1 on, got 0 and 3"),
        (lambda: strategy("reinforce", decay=1.0), r"decay lies in \[0, 1\)"),
        (lambda: strategy("bayesian", first=0), "from 1 on, got 0"),
        (
            lambda: begin(strategy("random"), PLANTED, 0).tell([ScoredCode(TARGET, math.nan)]),
            "told as infinity",
        ),
    ],
)
def test_bad_settings_are_refused_in_one_line(make, message):
    with pytest.raises(ValueError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_searches_of_other_seeds_are_independent_values():
    a = begin(strategy("evolution"), PLANTED, 0)
    b = a.tell([ScoredCode(TARGET, 0.0)])
    assert a.history.results == ()
    assert dataclasses.replace(b, history=a.history).ask() == a.ask()
