"""A batch that grows: a program a batch size, counted in examples, cohorts instead of refills."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import polars as pl
import pytest
from support.engine_factory import (
    TINY,
    resident_digits,
    same_bits,
    tiny_program,
    tiny_study,
    tiny_trial,
)
from support.engine_twin import iterates, validation_curve
from support.tolerances import FLOAT32

from experiments.analysis.budgets import best_within
from experiments.analysis.steps_to_result import steps_to_result
from experiments.cli import main
from experiments.records.store import read
from experiments.runner.evaluate import evaluate_trial
from experiments.runner.study import run_study
from experiments.spec.trial import Status, evaluation_steps
from experiments.training.feed import ResidentData
from experiments.training.layout import ONE_DEVICE, Execution, Layout
from experiments.training.population import Population
from experiments.training.program import Program
from experiments.training.resume import Checkpoints
from schedules.batch_size import examples_after, smith, stretch_at, stretches
from workloads.datasets import load

MODES_AGREE = 1e-3
"""Forty steps in another order of sums."""

TWIN_AGREES = 1e-4
"""Float32 against float64 over some tens of steps."""
PHASES = smith(16, (200, 600), 2.0)  # 13 steps of 16, 13 of 32 (624 consumed), then 64


def growing_program(record_norms="every"):
    study = tiny_study(batch_size_schedule="smith", batch_size_cuts=(200, 600))
    return Program(study.config(record_norms), resident_digits(), study.divergence_factor)


@pytest.fixture(scope="module")
def program():
    return growing_program()


def train(trials, program, phases=PHASES, mode="scan", slots=1, layout=ONE_DEVICE):
    pending, results = list(trials), {}
    execution = Execution(mode, slots, layout)
    population = Population(program, trials[0].batch_size, execution, phases=phases)
    population.run(
        lambda: pending.pop(0) if pending else None,
        lambda result: results.__setitem__(result.trial.index, result),
    )
    return results


def test_a_growing_batch_takes_the_examples_in_order_and_compiles_once_a_size(program):
    """Against the float64 loop: the stream of examples goes on where the smaller batch left it."""
    trial, parts = tiny_trial(1, 16, train_steps=40), stretches(PHASES)
    found = train([trial], program)[1]
    grid = evaluation_steps(40)
    assert found.evaluations["step"].tolist() == grid  # a function of the step alone
    sizes = [16] * 13 + [32] * 13 + [64] * 14
    counted = np.cumsum(sizes)
    assert found.norms["examples"].tolist() == counted.tolist()
    assert found.evaluations["examples"].tolist() == counted[np.array(grid) - 1].tolist()
    path = iterates(trial, program, batch_size=lambda t: stretch_at(parts, t).batch_size)
    entropies, _ = validation_curve(path, grid)
    np.testing.assert_allclose(
        found.evaluations["validation/cross_entropy"], entropies, rtol=TWIN_AGREES
    )
    train([tiny_trial(0, 16, 30, learning_rate=0.01)], program)  # other numbers: nothing anew
    assert dict(program.traces) == {("chunk", size, 1): 1 for size in (16, 32, 64)}


def test_the_rate_of_a_phase_is_data(program):
    """Capped at 32, the last cut falls to the rate: same sizes, another multiplier."""
    train([tiny_trial(0, 16, 30)], program)  # whichever test comes first
    before = dict(program.traces)
    capped = smith(16, (200, 600), 2.0, 32)
    found = train([tiny_trial(0, 16, 40, learning_rate=0.1)], program, capped)[0]
    expected = 0.1 * np.where(np.arange(40) < 26, 1.0, 0.5)
    np.testing.assert_allclose(found.norms["learning_rate"], expected, rtol=FLOAT32)
    assert dict(program.traces) == before


def test_without_cuts_or_with_a_factor_of_one_it_is_the_constant_run_to_the_bit(program):
    trial = tiny_trial(2, 16, train_steps=40)
    constant = train([trial], tiny_program("every"), ())[2]
    for phases in (smith(16, (), 5.0), smith(16, (200, 600), 1.0)):
        grown = train([trial], program, phases)[2]
        assert same_bits(grown.evaluations, constant.evaluations)
        assert same_bits(grown.norms, constant.norms)


def test_packed_trials_run_as_cohorts_and_a_divergence_waits_for_the_next():
    """Three trials in two slots, one of which diverges at once; the third starts a new cohort."""
    program = growing_program("evaluations")
    trials = [tiny_trial(i, 16, 40, learning_rate=rate) for i, rate in enumerate((0.05, 1e9, 0.02))]
    packed = train(trials, program, mode="packed", slots=2)
    assert packed[1].status == Status.INFEASIBLE and packed[1].steps < 13
    for index in (0, 2):  # alone in a pack, the trial's bits are the same
        alone = train([trials[index]], program, mode="packed", slots=2)[index]
        assert same_bits(alone.evaluations, packed[index].evaluations)
    assert dict(program.traces) == {("chunk", size, 2): 1 for size in (16, 32, 64)}
    # Norms at an evaluation are of a step at that step's size, also at a phase's end.
    looped = train([trials[0]], program, mode="loop")[0]
    for name in ("gradient_norm", "learning_rate", "examples"):
        np.testing.assert_allclose(
            looped.evaluations[name], packed[0].evaluations[name], rtol=MODES_AGREE
        )


def test_a_growing_batch_over_replicas_in_micro_batches_is_the_same(program):
    trial = tiny_trial(1, 16, train_steps=30)
    plain = train([trial], program)[1]
    cut = train([trial], program, layout=Layout("vmap", data=2, micro_batch=10))[1]
    for name in ("gradient_norm", "examples", "learning_rate"):
        np.testing.assert_allclose(cut.norms[name], plain.norms[name], rtol=TWIN_AGREES)


def test_a_streamed_set_is_read_ahead_anew_at_every_size(program):
    data = ResidentData.put(load("digits").splits, 256, stream=True)
    streamed = Program(program.config, data, tiny_study().divergence_factor)
    trials = [tiny_trial(i, 16, train_steps=30) for i in range(2)]  # the second starts over
    for index, result in train(trials, program).items():
        assert same_bits(train(trials[index:], streamed)[index].norms, result.norms)


def test_a_saved_trial_goes_on_at_the_batch_size_it_had_come_to(program, tmp_path):
    """Stopped after every chunk from the first phase to the last, and resumed to the bit."""
    trial, resumed, begun = tiny_trial(3, 16, train_steps=40), {}, set()
    whole = train([trial], program)[3]
    while not resumed:
        kept = Checkpoints(tmp_path, TINY.goal, math.inf, print)
        pending = [trial]
        population = Population(program, 16, checkpoints=kept, phases=PHASES, lookahead=False)
        population.run(
            lambda pending=pending: pending.pop() if pending else None,
            lambda result: resumed.__setitem__(result.trial.index, result),
            lambda steps: False,
        )
        begun.add(population.steps_under_way)
        population.save()
    assert begun & {13} and begun & set(range(14, 26)) and begun & set(range(27, 40))
    assert same_bits(resumed[3].evaluations, whole.evaluations)
    assert same_bits(resumed[3].norms, whole.norms)


# Studies.


def grown_study(**changes):
    settings = {
        "batch_sizes": (8,), "step_budget": 10, "example_budget": 2048, "trials": 2,
        "record_norms": "every", "schedule": "staircase", "batch_size_schedule": "smith",
        "fixed": {"decay_factor": 0.25, "milestone_3": 1.0, "warmup_steps": 4.0},
        **changes,
    }  # fmt: skip
    return tiny_study(**settings)


def test_a_study_holds_smiths_invariant_at_every_example(tmp_path):
    """Recorded rates over recorded batch sizes are the decayed rates over the constant one."""
    study = grown_study()
    record = read(run_study(study, tmp_path / "grown", execution="scan"))
    assert record.study["study"]["batch_size_factor"] == 4.0
    # Thirds of what follows four steps of warmup: 32 + 2016 / 3, 32 + 2 * 2016 / 3.
    assert [phase.start_examples for phase in study.phases(8)] == [0, 704, 1376]
    assert study.length(8) == 704 // 8 + 672 // 32 + 6  # 6 steps of 128 pass 2048
    norms = record.norms.sort("trial", "step")
    for (trial,), rows in norms.partition_by("trial", as_dict=True).items():
        consumed = rows["examples"].to_numpy()
        size = np.diff(consumed, prepend=0)
        assert consumed[-1] >= study.example_budget > consumed[-1] - size[-1]
        peak = record.trials.filter(trial=trial)["learning_rate"][0]
        before = consumed - size
        warmup = np.minimum(before / 8 / 4, 1.0)
        decayed = 0.25 ** ((before >= 704).astype(int) + (before >= 1376))
        np.testing.assert_allclose(
            rows["learning_rate"] / size, peak * warmup * decayed / 8, rtol=FLOAT32
        )
    both = record.evaluations.join(norms, on=["trial", "step"], suffix="_of_norms")
    assert both.height == record.evaluations.height
    assert (both["examples"] == both["examples_of_norms"]).all()
    best = record.evaluations.filter(trial=0)[study.goal.column].min()
    assert evaluate_trial(tmp_path / "grown", 8, 0).recorded[study.goal.column] == best


def test_analysis_counts_the_examples_that_were_consumed(tmp_path):
    study = grown_study(trials=1)
    record = read(run_study(study, tmp_path / "grown", execution="scan"))
    column = study.goal.column
    rows = record.evaluations.filter(pl.col("examples") <= 1500)
    found = best_within(record, examples=1500).row(0, named=True)
    assert found["best_value"] == rows[column].min()
    at = rows.filter(pl.col(column) == found["best_value"]).sort("step").row(0, named=True)
    assert (found["step"], found["examples"]) == (at["step"], at["examples"])
    goal = float(record.evaluations[column].min() + 1e-9)
    reached = steps_to_result(record, goal).row(0, named=True)
    first = record.evaluations.filter(pl.col(column) < goal).sort("step").row(0, named=True)
    assert reached["steps_to_result"] == first["step"]
    assert reached["examples_to_result"] == first["examples"] > 8 * first["step"]


@pytest.mark.parametrize("schedule", ["smith", "seesaw"])
@pytest.mark.parametrize(("step_budget", "example_budget"), [(1, 4000), (300, 1000), (300, 4000)])
def test_the_length_meets_both_budgets_and_no_more(schedule, step_budget, example_budget):
    study = grown_study(
        batch_size_schedule=schedule, step_budget=step_budget, example_budget=example_budget
    )
    length, parts = study.length(8), stretches(study.phases(8))
    assert length >= step_budget and examples_after(parts, length) >= example_budget
    assert length == step_budget or examples_after(parts, length - 1) < example_budget
    assert len(parts) == 3  # however long, it grows at two thirds of itself
    longer = dataclasses.replace(study, train_steps={8: length + 50})
    assert longer.length(8) == length + 50 and longer.identity("x") != study.identity("x")


def test_a_warmup_may_be_stated_in_epochs_of_the_first_batch_size():
    fixed = {"decay_factor": 0.25, "milestone_3": 1.0, "warmup_steps": "0.03125 epochs"}
    assert grown_study(fixed=fixed).phases(8) == grown_study().phases(8)


def test_cuts_may_be_given_and_lengths_follow_them():
    study = grown_study(
        schedule="constant", batch_size_cuts=[100, 500], max_batch_size=64,
        batch_size_factor=4.0, fixed={},
    )  # fmt: skip
    assert [phase.batch_size for phase in study.phases(8)] == [8, 32, 64]
    assert study.length(8) == 13 + 13 + 24  # 104, 520, then 64 at a time past 2048
    assert json.loads(json.dumps(study.describe()))["batch_size_cuts"] == [100, 500]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size_schedule": "smit"}, "batch size schedule 'smit' is unknown; did you mean"),
        ({"max_batch_size": 1025}, r"max_batch_size must lie in 1..1024 \(the training set"),
        ({"batch_size_factor": 0.5}, "factor must exceed 1, got 0.5"),
        ({"batch_size_cuts": (5, 5)}, "schedule must be constant with batch_size_cuts"),
        ({"batch_size_cuts": (5, 5), "schedule": "constant", "fixed": {}},
         "cuts must increase from above 0"),
        ({"schedule": "constant", "fixed": {}}, "which does not fall by a factor of 5 at batch"),
        ({"schedule": "plateau", "fixed": {}}, "batch_size_cuts must be given with the schedule"),
        ({"space": {"learning_rate": {"low": 0.1, "high": 1.0},
                    "warmup_steps": {"low": 1, "high": 9}},
          "fixed": {}}, "warmup_steps must be fixed, not searched"),
        ({"batch_size_schedule": "constant", "max_batch_size": 64},
         "max_batch_size needs a batch_size_schedule, got 64 without one"),
        ({"fixed": {"decay_factor": 0.25, "warmup_steps": "5%"}},
         "warmup_steps must be in steps, examples or epochs where the length follows"),
        ({"train_steps": {8: 20}}, "train_steps of batch size 8 must be at least 115"),
    ],
)  # fmt: skip
def test_what_a_growing_batch_cannot_be_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        grown_study(**changes)


def test_the_command_line_runs_a_growing_batch_from_end_to_end(tmp_path, capsys):
    typed = ["run", "quickstart", "--smoke", "--schedule", "step_decay", "--batch-sizes", "16"]
    typed += ["--batch-size-schedule", "smith", "--trials", "2", "--execution", "packed"]
    assert main([*typed, "--out", str(tmp_path / "run")]) == 0
    record = read(tmp_path / "run")
    assert record.study["study"]["batch_size_schedule"] == "smith"
    consumed = record.evaluations.sort("trial", "step")["examples"].to_numpy()
    assert (consumed > 16 * record.evaluations.sort("trial", "step")["step"].to_numpy()).any()
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "Batch size schedule" in page
    capsys.readouterr()
