"""The refit of an automl: when it is done, what it changes, what it leaves, after an interrupt."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest
from support.automl_child import run, write_table

from experiments.procedures.automl.asked import AutomlRequest, search_of
from experiments.procedures.automl.data import Examples, split_source
from experiments.procedures.automl.ending import chosen
from experiments.procedures.automl.limits import EndingTime, TrialLimit
from experiments.procedures.automl.plan import planned
from experiments.procedures.automl.refit import refitted
from experiments.procedures.automl.stages import Stages
from experiments.procedures.budget import Budget
from experiments.runner.predict import load
from experiments.runner.search import SearchResult, run_search
from workloads.datasets.sources import read_source

BUDGET = "5trials"
TRAIN, BOTH = 832, 1039


def times(growth=BOTH / TRAIN, left=math.inf, each=0.0):
    """A clock that stands still."""
    return EndingTime(lambda: 0.0, left, each, growth)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Folder of an automl that was interrupted in its refit, went on and ended as its predictor was
    saved; what it had chosen."""
    folder = tmp_path_factory.mktemp("refit")
    write_table(folder / "trees.csv", 1300)
    refit, begun, concluded = SearchResult.refitted, [], []

    def interrupted(self, trial, goes_on):
        begun.append(trial)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return refit(self, trial, goes_on)

    def over(self, procedure, found, best):
        concluded.append(best)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Stages, "conclude", over)
        with patch.context() as first, pytest.raises(KeyboardInterrupt):
            first.setattr(SearchResult, "refitted", interrupted)
            run(folder, BUDGET)
        assert len(begun) >= 2 and not (folder / "automl" / "model").exists()
        with pytest.raises(KeyboardInterrupt):
            run(folder, BUDGET)
    return folder, *concluded


@pytest.fixture(scope="module")
def choice(whole):
    """(search, examples, what was chosen before a refit)."""
    folder, _ = whole
    examples = split_source(read_source(str(folder / "trees.csv"), "tree"), 0)
    budget = Budget.parse(BUDGET)
    plan = planned(examples, budget)
    asked = search_of(AutomlRequest("", budget), examples, plan)
    found = run_search(asked, folder / "automl" / "01-search", show=False, workers=1,
                       limit=TrialLimit(5, plan.epochs))  # fmt: skip
    best = chosen(found, examples, plan.preset.members, times(), lambda line: None)
    return found, examples, best


def same(one, other):
    return all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
    )


def test_the_predictor_has_learned_from_every_example_that_does_not_test(whole, choice):
    (folder, ended), (found, examples, before) = whole, choice
    assert (examples.size("train"), len(examples.development[1])) == (TRAIN, BOTH)
    after = refitted(found, before, examples, times(), workers=2).predictor
    saved = load(folder / "automl")
    for old, new, held in zip(before.predictor.nets, after.nets, saved.nets, strict=True):
        assert same(new, held) and not same(new, old)
        assert (old.name, old.weight, old.values) == (held.name, held.weight, held.values)
        assert (old.examples, new.examples, held.examples) == (TRAIN, BOTH, BOTH)
    assert ended.trained_on.startswith("1,039 examples, training and validation together: once")
    assert "1.25 times the steps; weights and validation numbers are those of b" in ended.trained_on
    assert (ended.validation, ended.best) == (before.validation, before.best)


def test_a_net_whose_refit_diverged_or_learned_nothing_stays(choice, monkeypatch):
    found, examples, before = choice
    refit, first, second = SearchResult.refitted, *(m.trial for m in before.members[:2])

    def failing(self, trial, goes_on):
        if trial == first:
            return None
        params, state = refit(self, trial, goes_on)
        return (jax.tree.map(np.zeros_like, params) if trial == second else params), state

    monkeypatch.setattr(SearchResult, "refitted", failing)
    after = refitted(found, before, examples, times())
    nets = after.predictor.nets
    kept = [same(old, new) for old, new in zip(before.predictor.nets, nets, strict=True)]
    assert kept == [True, True, *[False] * (len(nets) - 2)]
    assert [net.examples for net in nets] == [TRAIN, TRAIN, *[BOTH] * (len(nets) - 2)]
    assert f"trial {first} is that of 832 examples: its refit diverged" in after.trained_on
    assert f"trial {second} is that of 832 examples: its refit has a cross-entropy of 1.1" in (
        after.trained_on
    )


def test_where_time_is_short_the_nets_stay_and_the_page_says_so(choice, monkeypatch):
    found, examples, before = choice
    alone = "832 training examples; no net was trained again on validation examples too: that may"
    monkeypatch.setattr(SearchResult, "refitted", None)
    found_none = refitted(found, before, examples, times(growth=0.0))
    assert found_none.trained_on == f"{alone} take more time than the ending has, of one net alone"
    late = refitted(found, before, examples, times(left=-1.0))
    assert late.trained_on == f"{alone} take 0.0 s, and 0.0 s are left"
    assert found_none.predictor is late.predictor is before.predictor
    monkeypatch.setattr(Examples, "refits", False)
    assert "larger than what lies on the device" in refitted(
        found, before, examples, times()
    ).trained_on  # fmt: skip


def test_another_member_leaves_time_for_the_refit_of_all():
    """Of 1.5 times what they may take; growth 1.25, a member of 4 s."""
    assert times(1.25, left=13.6, each=4.0).more(0.0)  # 6 + 1.5 x 1.25 x 4
    assert not times(1.25, left=13.4, each=4.0).more(0.0)
    assert times(1.25, left=21.1, each=4.0).more(4.0)  # 6 + 1.5 x 1.25 x 8
    assert not times(1.25, left=20.9, each=4.0).more(4.0)
    assert times(1.25, left=7.0, each=4.0).more(4.0)  # that of the first does not fit anyway
    assert not times(1.25, left=5.9, each=4.0).more(4.0)
