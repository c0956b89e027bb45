"""The plan: what a probe may cost, what it chooses, how it interpolates, how it is recorded."""

from __future__ import annotations

import dataclasses
import math

import pytest
from support.engine_factory import TINY, resident_digits, tiny_program, tiny_study, tiny_trial
from support.tolerances import ELEMENTWISE

from experiments.planning import execution as plans
from experiments.planning import probe as probes
from experiments.planning.execution import ExecutionPlan, ExecutionRequest
from experiments.planning.probe import Workplan, make_plan
from experiments.records.store import read
from experiments.runner.study import run_study
from experiments.training.layout import Execution
from experiments.training.program import Program

SCAN, LOOP, PACKED = Execution("scan"), Execution("loop"), Execution("packed", 8)


def workplan(steps, evaluations=0.01):
    """A plan's input for the tiny net."""
    return Workplan(
        steps=steps,
        evaluations=dict.fromkeys(steps, evaluations),
        make_program=tiny_program,
        make_trial=lambda b, i: tiny_trial(i, b, train_steps=10**6, learning_rate=1e-6),
    )


def chosen(plan):
    """The executions of a plan but for the evaluation batch, which every plan records."""
    assert all(e.evaluation_batch for e in plan.executions.values())
    found = plan.executions.items()
    return {b: dataclasses.replace(e, evaluation_batch=None) for b, e in found}


@pytest.fixture
def timed(monkeypatch):
    """Replaces the measuring by a law: seconds = f(batch size, execution); returns the calls."""
    calls = []

    def install(law):
        def fake(work, program, batch_size, execution, workers):
            calls.append((batch_size, execution, program.config.record_norms))
            return law(batch_size, execution)

        monkeypatch.setattr(probes, "_seconds_per_step", fake)
        monkeypatch.setattr(plans, "candidates", lambda packable: [SCAN, LOOP, PACKED])
        return calls

    return install


def test_the_fastest_execution_is_chosen_at_every_batch_size(timed):
    # Dispatch costs a loop 200 us a step; inside a scan arithmetic is three times dearer.
    laws = {"loop": lambda b: 2e-4 + 1e-6 * b, "scan": lambda b: 1e-5 + 3e-6 * b}
    laws["packed"] = lambda b: 4e-5 + 3e-6 * b
    calls = timed(lambda b, execution: laws[execution.mode](b))
    steps = {2**k: 10**9 for k in range(13)}
    plan = make_plan(workplan(steps), ExecutionRequest(workers=2))
    assert {b for b, _, _ in calls} == {1, 64, 4096}
    assert plan.reason == "measured"
    for batch_size, execution in plan.executions.items():
        true = {mode: law(batch_size) for mode, law in laws.items()}
        assert true[execution.mode] <= 1.3 * min(true.values()), batch_size
    for batch_size in (1, 64, 4096):
        best = min(law(batch_size) for law in laws.values())
        assert plan.seconds_per_step[batch_size] == pytest.approx(best)


def test_before_a_probe_a_large_net_is_known_to_be_slow(timed):
    """By the operations of its step: as many steps of the small net are too few for a probe."""
    calls = timed(lambda b, execution: 1e-1)
    steps = {8: 1000, 512: 1000}
    assert "too short for a probe" in make_plan(workplan(steps), ExecutionRequest(workers=1)).reason
    # 6 B P of 65,536 units of 64 inputs and 10 outputs, less the gradient of the images.
    per_example = 65_536 * (6 * 74 - 2 * 64)
    wide = dataclasses.replace(TINY, model_options={"hidden_sizes": [65_536], "classes": 10})
    config = tiny_study(workload=wide).config("off")
    program = Program(config, resident_digits(), 1e4)
    plan = make_plan(dataclasses.replace(workplan(steps), make_program=lambda norms: program))
    assert calls and plan.reason == "measured"
    probe = probes._Probe(workplan(steps), 1)
    probe.examine(program, 512)
    assert probe.flops_per_example == pytest.approx(per_example, rel=ELEMENTWISE)
    assert probe.planned() == pytest.approx(
        1000 * sum(probes.guessed_seconds(b * probe.flops_per_example) for b in steps)
    )


def test_a_probe_that_would_cost_too_much_is_not_made(timed):
    calls = timed(lambda b, execution: 1e-4)
    plan = make_plan(workplan({8: 100, 64: 100}), ExecutionRequest(workers=2))
    assert calls == []
    assert chosen(plan) == {8: SCAN, 64: SCAN}
    assert "too short for a probe" in plan.reason
    assert plan.probe_seconds == 0.0


def test_a_probe_stays_within_its_share_of_the_planned_time(monkeypatch):
    """Four seconds a measurement, a hundred planned: one fits in five, a second would not."""
    clock = [0.0]
    calls = []

    def slow(work, program, batch_size, execution, workers):
        clock[0] += 4.0
        calls.append(batch_size)
        return 1e-4

    monkeypatch.setattr(probes, "_seconds_per_step", slow)
    monkeypatch.setattr(probes.time, "perf_counter", lambda: clock[0])
    plan = make_plan(workplan({8: 1_000_000}), ExecutionRequest(workers=1))
    assert calls == [8]
    assert plan.probe_seconds == 4.0 <= probes.PROBE_SHARE * 1_000_000 * 1e-4


def test_a_real_probe_measures_each_candidate_with_every_worker_busy():
    plan = make_plan(workplan({8: 10**9}), ExecutionRequest(workers=2), record_norms="off")
    assert plan.reason == "measured"
    assert [row["mode"] for row in plan.probe] == ["scan", "loop", "packed"]
    for row in plan.probe:
        chosen = plan.seconds_per_step[row["batch_size"]]
        assert chosen <= row["seconds_per_step"] * 1.0001


def test_a_probe_that_fails_leaves_the_failure_to_training(monkeypatch):
    """Neither a hang of the other workers nor an exception: the default plan, and why."""
    work = workplan({8: 10**9})
    monkeypatch.setattr(probes.Population, "run", _raises)
    plan = make_plan(work, ExecutionRequest(workers=3))
    assert chosen(plan) == {8: SCAN}
    assert plan.reason == "default: the probe failed (RuntimeError('no such layer'))"


def test_what_runs_out_of_memory_in_the_probe_is_not_chosen_there_nor_above(timed):
    """Packs would be fastest everywhere, and fit at the smallest batch size only."""

    def law(batch_size, execution):
        if execution.slots * batch_size > 100:
            raise probes.ProbeError("full") from MemoryError()
        return {SCAN: 2e-4, LOOP: 3e-4, PACKED: 1e-4}[execution]

    calls = timed(law)
    plan = make_plan(
        workplan({2**k: 10**9 for k in range(7)}), ExecutionRequest(workers=1), record_norms="off"
    )
    assert plan.reason == "measured"
    assert {b: e for b, e in chosen(plan).items() if e != PACKED} == {64: SCAN}
    assert calls.count((64, PACKED, "off")) == 1


def _raises(*arguments):
    raise RuntimeError("no such layer")


@pytest.mark.parametrize(
    ("cost", "evaluations", "expected"),
    [(1.04, 0.2, "every"), (1.2, 0.2, "off"), (1.2, 0.01, "evaluations")],
)
def test_norms_are_recorded_as_their_cost_allows(monkeypatch, cost, evaluations, expected):
    def law(work, program, batch_size, execution, workers):
        return 1e-4 * (cost if program.config.record_norms == "every" else 1.0)

    monkeypatch.setattr(probes, "_seconds_per_step", law)
    plan = make_plan(workplan({8: 10**9, 64: 10**9}, evaluations), ExecutionRequest(workers=1))
    assert plan.record_norms == expected


@pytest.mark.parametrize("asked", ["loop", "scan", "packed"])
def test_an_execution_that_is_asked_for_is_taken_without_measuring(timed, asked):
    calls = timed(lambda b, execution: math.nan)
    plan = make_plan(workplan({8: 10**9}), ExecutionRequest(asked), record_norms="off")
    assert plan.executions[8].mode == asked
    assert calls == []


def test_json_round_trip():
    plan = make_plan(workplan({8: 100, 64: 100}), ExecutionRequest("packed", workers=3), "every")
    assert ExecutionPlan.from_json(plan.to_json()) == plan


def test_a_resume_uses_the_recorded_plan_and_another_execution_makes_a_new_one(tmp_path):
    study = tiny_study(batch_sizes=(8,), trials=1)
    run_study(study, tmp_path / "s", execution="loop")
    run_study(dataclasses.replace(study, trials=2), tmp_path / "s")
    run_study(dataclasses.replace(study, trials=3), tmp_path / "s", execution="scan")
    # A new batch size needs a plan of its own.
    run_study(dataclasses.replace(study, batch_sizes=(8, 16), trials=3), tmp_path / "s")
    record = read(tmp_path / "s")
    assert [p["request"] for p in record.study["plans"]] == ["loop", "scan", "auto"]
    eight = record.trials.filter(record.trials["batch_size"] == 8)
    assert eight["plan"].to_list() == [0, 0, 1]
