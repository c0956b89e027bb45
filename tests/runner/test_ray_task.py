"""A Ray task in this process: what travels with a pack, where its trials go on, what it refuses."""

from __future__ import annotations

import dataclasses
import types

import pytest
from support.engine_factory import TINY, same_bits, tiny_study, tiny_trial

from experiments.records.store import Writer
from experiments.runner.executors import Job
from experiments.runner.executors.ray import _pack
from experiments.runner.executors.task import PackOutcome, StudySetting, portable, train_pack
from experiments.spec.errors import StudyError
from experiments.spec.loading import load_file
from experiments.training.layout import SCAN, Execution
from experiments.training.saving import Saving
from workloads import datasets

USERS_FILE = """
from flax import linen as nn

class Net(nn.Module):
    classes: int

    @nn.compact
    def __call__(self, x, train=False):
        return nn.Dense(self.classes)(x.reshape(len(x), -1))

def net(classes, example):
    return Net(classes)
"""


def test_a_pack_carries_the_text_of_a_users_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(USERS_FILE)
    module = load_file(path)
    asked = tiny_study(
        trials=1, step_budget=6, example_budget=48,
        workload=dataclasses.replace(TINY, model=module.net, model_options={"classes": 10}),
    )  # fmt: skip
    setting = StudySetting.of(asked, datasets.load("digits").checksum, **HOW)
    assert [name for name, _ in setting.files] == ["mine.py"]
    path.write_text("raise SystemExit")
    with pytest.raises(ValueError, match="mine.py has changed since it was loaded"):
        StudySetting.of(asked, "", **HOW)


HOW = {
    "record_norms": "off", "data_dir": None, "stream": None, "record": ("/nowhere", ""),
    "checkpoint_seconds": 1e-9,
}  # fmt: skip


@pytest.fixture
def begun(monkeypatch):
    """The steps from which trials begin, filled as they do."""
    steps, begin = [], Saving.begin
    monkeypatch.setattr(
        Saving,
        "begin",
        lambda self, trial, step: (steps.append(step), begin(self, trial, step))[1],
    )
    return steps


def test_a_trial_that_is_put_aside_goes_on_in_another_task(begun):
    asked = tiny_study()
    trial = asked.trial(8, 0, 0, {"learning_rate": 0.5, "momentum": 0.5}, "")
    setting = StudySetting.of(asked, datasets.load("digits").checksum, **HOW)
    whole = train_pack(setting, Job(8, SCAN, 0), [trial])
    paused = train_pack(setting, Job(8, SCAN, 0), [dataclasses.replace(trial, pause=20)])
    (held,) = paused.aside.values()
    assert paused.results[0].reason == "pruned" and held.step == 20 and not whole.aside
    again = train_pack(setting, Job(8, SCAN, 0), [trial], paused.aside)
    assert begun == [0, 0, 20] and not again.aside
    assert same_bits(again.results[0].evaluations, whole.results[0].evaluations)


def test_a_worker_saves_long_trials_where_it_sees_the_record(begun, tmp_path):
    asked = tiny_study()
    trial = asked.trial(8, 0, 0, {"learning_rate": 0.5, "momentum": 0.5}, "")
    checksum = datasets.load("digits").checksum
    with Writer.open(tmp_path, {"identity": "a", "study": {"name": "tiny"}}):
        pass
    steps = {}
    for identity in ("another", "a"):
        record = (str(tmp_path), identity)
        setting = StudySetting.of(asked, checksum, **{**HOW, "record": record})
        for _ in range(2):
            outcome = train_pack(setting, Job(8, SCAN, 0), [trial])
            assert outcome.results[0].steps == trial.train_steps and not outcome.warnings
        steps[identity] = begun[-2:]
    assert steps["another"] == [0, 0]
    assert steps["a"][0] == 0 < steps["a"][1]


def test_a_task_takes_more_short_trials_and_no_more_long_ones():
    """1,000 steps: 8 slots of 60 steps hold them by 17 trials."""
    trials = iter([tiny_trial(i) for i in range(100)])
    jobs = types.SimpleNamespace(next_trial=lambda job: next(trials, None))
    job = Job(8, Execution("packed", 8), 0)
    assert [len(_pack(job, jobs, steps)) for steps in (0, 480, 1000, 1e9)] == [8, 8, 17, 67]


def test_a_task_refuses_other_data_and_returns_what_its_model_raised():
    asked = tiny_study()
    trial = asked.trial(8, 0, 0, {"learning_rate": 0.5, "momentum": 0.5}, "")
    setting = StudySetting.of(asked, "another", **HOW)
    outcome = train_pack(setting, Job(8, SCAN, 0), [trial])
    assert isinstance(outcome, PackOutcome) and not outcome.results
    assert "is another than the study's" in str(outcome.error)


class Unreadable(Exception):
    """Cannot be made again from what pickle keeps."""

    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


def test_an_exception_that_no_other_process_can_read_becomes_one_line():
    assert isinstance(portable(Unreadable("a", "b")), StudyError)
    assert str(portable(Unreadable("a", "b"))) == "Unreadable: a b"
    assert isinstance(portable(ValueError("x")), ValueError)
