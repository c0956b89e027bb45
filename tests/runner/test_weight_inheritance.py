"""A search whose networks begin with the weights of those that they grew out of."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest
from support import architecture_child
from support.architecture_child import LAYERS, inheriting, inheriting_cells

from experiments.records.store import read
from experiments.report.search_page import write_search_report
from experiments.runner.search import run_search
from experiments.runner.search_models import SearchTask
from experiments.search.architecture.inheritance import Inheritance, growths

STEPS = 4
"""Of an epoch of 1,024 examples at batch size 256."""


@pytest.fixture(scope="module", autouse=True)
def one_program_a_network():
    """Searches of this process differ in what is no part of a program."""
    made, own = {}, SearchTask.program

    def shared(task, module, values):
        if module not in made:
            made[module] = own(task, module, values)
        return made[module]

    SearchTask.program = shared
    yield
    SearchTask.program = own


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """(folder, what was found) of the search that the others are compared with."""
    folder = tmp_path_factory.mktemp("inheriting")
    return folder, architecture_child.run(folder, inheriting)


def parents(found):
    return found.table["parent"].to_list()


def test_what_grew_out_of_a_trained_network_trains_the_further_steps_alone(whole):
    _, found = whole
    trials = found.searched.record.trials.sort("trial")
    heirs = [parent is not None for parent in parents(found)]
    assert heirs == [False, False, True, True]
    assert trials["steps"].to_list() == [STEPS * (1 if heir else 2) for heir in heirs]
    assert found.table["resource"].to_list() == [1 if heir else 2 for heir in heirs]
    for trial, parent in enumerate(parents(found)):
        if parent is not None:
            old, new = (network(found, index) for index in (parent, trial))
            assert growths(old, new, (64,)) and parent < trial


def network(found, trial):
    (row,) = found.table.filter(trial=trial).select(n for n, _ in LAYERS.choices).rows(named=True)
    return LAYERS.build(row)


@pytest.mark.parametrize("make", [inheriting, inheriting_cells], ids=["stacks", "cells"])
def test_an_heir_that_hardly_moves_measures_what_its_parent_did(tmp_path, make):
    """So small a rate that the function stays: a network that began anew would have another.

    Cells are one program, in which all that is not chosen is new.
    """
    fields = {"fixed": {"learning_rate": 1e-12}, "budget": 1, "inherit": Inheritance(1, "carry")}
    found = architecture_child.run(tmp_path, make, **fields)
    values = dict(zip(found.table["trial"], found.table["value"], strict=True))
    inherited = {trial: p for trial, p in enumerate(parents(found)) if p is not None}
    assert inherited
    for trial, parent in inherited.items():
        assert abs(values[trial] - values[parent]) <= 1 / 384  # a tie that rounding decides
    assert len({value for trial, value in values.items() if trial not in inherited}) > 1


def test_killed_the_same_call_makes_the_same_record(whole, tmp_path):
    """The weights of parents are on no disk: they are trained again, to the bit."""
    child = [sys.executable, architecture_child.__file__, str(tmp_path), "inheriting"]
    settings = {**os.environ, "KILL": "2"}
    ended = subprocess.run(child, env=settings, capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr.decode()
    assert len(read(tmp_path / "record").trials) < 4
    again, (_, found) = architecture_child.run(tmp_path, inheriting), whole
    ours, theirs = (one.table.drop("seconds") for one in (again, found))
    assert ours.equals(theirs, null_equal=True)
    assert again.searched.curves.equals(found.searched.curves)


def test_the_model_of_an_heir_is_its_own(whole):
    _, found = whole
    heir = max(trial for trial, parent in enumerate(parents(found)) if parent is not None)
    module, params, statistics = found.model(heir)
    assert module.graph == network(found, heir).graph("network") and not statistics
    again = found.model(heir)[1]
    jax.tree.map(np.testing.assert_array_equal, params, again)


def test_the_page_and_the_record_say_whose_weights_a_network_began_with(whole):
    folder, found = whole
    asked = found.searched.asked["proposer"]["inherit"]
    assert asked == {"further": 1, "optimizer_state": "reset"}
    text = write_search_report(found.searched, folder / "record").read_text()
    heirs = sum(parent is not None for parent in parents(found))
    steps = found.searched.record.trials["steps"].sum()
    assert "grew out of trial" in text
    assert f"{heirs} of 4 began with the weights of an earlier one and trained 1 epochs" in text
    assert f"{steps} steps in all" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inherit": Inheritance(3)}, "at most the budget, 2 epochs, got 3"),
        ({"pruner": "extrapolation"}, "inherit needs pruner none and no patience"),
        ({"patience": 1}, "inherit needs pruner none and no patience"),
        ({"optimizer": "schedule_free_adamw", "inherit": Inheritance(1, "carry")},
         "inherit cannot carry the state of schedule_free_adamw: .* is not known to be moments"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(tmp_path, change, message):
    with pytest.raises(ValueError, match=message) as caught:
        run_search(inheriting(**change), tmp_path / "record", show=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "record").exists()
