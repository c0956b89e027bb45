"""A trial that is put aside and goes on is to the bit one that never stopped; patience ends one."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from support.engine_factory import resident_digits, same_bits, tiny_study, tiny_trial, train

from experiments.search.pruning import early_stopping
from experiments.spec.trial import Status
from experiments.training.checkpoint import Saved
from experiments.training.layout import Execution
from experiments.training.population import Population
from experiments.training.program import Program
from experiments.training.resume import Checkpoints
from experiments.training.saving import HeldStates
from experiments.training.slots import End, Slot
from workloads import Goal

GOAL = Goal("classification_error", 0.4)
RATES = (0.05, 0.01, 0.02, 1e9)


def trials(**changes):
    found = [tiny_trial(i, learning_rate=rate, train_steps=60) for i, rate in enumerate(RATES)]
    return [dataclasses.replace(trial, **changes) for trial in found]


@pytest.fixture(scope="module")
def program():
    return Program(tiny_study(goal=GOAL).config("off"), resident_digits(), 1e4)


def run(program, trials, execution, held, checkpoints=None):
    """(results by index, trial-steps that were made)."""
    pending, results, made = list(trials), {}, []
    population = Population(program, 8, execution, held=held, checkpoints=checkpoints)

    def advanced(steps):
        made.append(steps)
        return True

    population.run(
        lambda: pending.pop(0) if pending else None,
        lambda result: results.__setitem__(result.trial.index, result),
        advanced,
    )
    return results, sum(made)


@pytest.mark.parametrize("execution", [Execution("scan"), Execution("packed", 4)], ids=str)
def test_a_paused_trial_goes_on_to_the_bit_and_costs_only_the_further_steps(program, execution):
    whole, _ = run(program, trials(), execution, {})
    held = {}
    paused, first = run(program, trials(pause=20), execution, held)
    assert sorted(held) == [(8, 0, i) for i in (0, 1, 2)]  # the last diverged
    for index in (0, 1, 2):
        result = paused[index]
        assert (result.status, result.reason, result.steps) == (Status.STOPPED, "pruned", 20)
        kept = whole[index].evaluations["step"] <= 20
        table = {name: values[kept] for name, values in whole[index].evaluations.items()}
        assert same_bits(table, result.evaluations)
    assert paused[3].status == Status.INFEASIBLE
    # In another order, so in other slots; one is put aside once more on its way.
    second, more = run(program, [trials(pause=41)[2]], execution, held)
    assert second[2].steps == 41
    third, last = run(program, [trials()[2], trials()[0], trials()[1]], execution, held)
    assert not held
    for index in (0, 1, 2):
        assert third[index].status == Status.COMPLETE
        assert same_bits(whole[index].evaluations, third[index].evaluations)
    assert first <= 4 * 20 and more == 21 and last == 19 + 2 * 40


@pytest.mark.parametrize(("at", "further"), [(20, 0), (31, 20)])
def test_a_rung_that_is_asked_for_again_costs_nothing_where_it_was_saved(
    program, tmp_path, at, further
):
    """After a kill. What was saved beyond the rung is of no use to it."""
    checkpoints = Checkpoints(tmp_path, GOAL, math.inf, print)
    trial, other = trials()[:2]
    population = Population(program, 8, checkpoints=checkpoints)
    population.train_to(trial, at)
    population.save()
    assert [path.name for path in (tmp_path / "checkpoints" / "8" / "0-0").iterdir()] == [str(at)]
    held, asked = {}, [dataclasses.replace(trial, pause=20), other]
    found, made = run(program, asked, Execution("scan"), held, checkpoints)
    whole = train([trial], program=program)[0].evaluations
    kept = {name: values[whole["step"] <= 20] for name, values in whole.items()}
    assert (found[0].steps, found[0].reason) == (20, "pruned") and list(held) == [(8, 0, 0)]
    assert same_bits(kept, found[0].evaluations)
    assert made == further + 60 and found[1].status == Status.COMPLETE
    again, made = run(program, [trial], Execution("scan"), held, checkpoints)
    assert made == 40 and same_bits(whole, again[0].evaluations)


def test_a_pause_at_the_end_is_none():
    assert not tiny_trial(0).pauses
    assert not dataclasses.replace(tiny_trial(0), pause=60).pauses
    assert dataclasses.replace(tiny_trial(0), pause=59).pauses
    raced = dataclasses.replace(tiny_trial(0), pause=59, stops=True, race_bound=30)
    assert raced.most_steps == 30 and not raced.pauses


@pytest.mark.parametrize(("patience", "min_delta"), [(3, 0.0), (1, 0.0), (4, 0.05), (50, 0.0)])
def test_patience_on_an_even_grid_is_early_stopping(patience, min_delta):
    curve = np.random.default_rng(patience).normal(size=30).round(2)
    trial = dataclasses.replace(tiny_trial(0), patience=patience * 2, min_delta=min_delta)
    slot = Slot(trial, None, None, None, ())
    steps = 2 * np.arange(1, 31)
    slot.evaluations += [
        {"step": steps[:7], GOAL.column: curve[:7]},
        {"step": steps[7:], GOAL.column: curve[7:]},
    ]
    found = early_stopping(curve[None], patience=patience, min_delta=min_delta, minimize=True)
    at = int(found.stop[0])
    if at < 29:
        assert slot.end(60, None, GOAL) == End(2 * (at + 1), Status.STOPPED, "patience")
    else:
        assert slot.end(60, None, GOAL) == End(60, Status.COMPLETE, "")


def test_a_trial_out_of_patience_stops_where_its_whole_length_says(program):
    whole = train(trials(), program=program)
    found = train(trials(patience=12), program=program)
    stopped = [result for result in found.values() if result.reason == "patience"]
    assert stopped
    for result in stopped:
        full = whole[result.trial.index].evaluations
        best = np.minimum.accumulate(full[GOAL.column])
        better = np.flatnonzero(np.diff(best, prepend=np.inf) < 0)
        since = full["step"][better[full["step"][better] <= result.steps][-1]]
        assert result.steps - since >= 12
        assert result.evaluations["step"][-1] == result.steps


def test_states_that_are_held_take_no_more_memory_than_they_may():
    held = HeldStates(most=3000)
    for index in range(4):
        held[8, 0, index] = Saved(5, {"w": np.zeros(125)}, {})  # 1,000 bytes each
    assert sorted(held) == [(8, 0, 1), (8, 0, 2), (8, 0, 3)]  # the oldest trains again
    assert held.pop((8, 0, 2)).step == 5 and held.pop((8, 0, 0), None) is None
    held[8, 0, 4] = Saved(5, {"w": np.zeros(125)}, {})
    assert len(held) == 3
