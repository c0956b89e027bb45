"""diagnose --fix on real training: remedies in the stated order, and which one cured."""

from __future__ import annotations

import json

import pytest
from support.engine_factory import TINY

from experiments import studies
from experiments.procedures.diagnose import diagnose
from experiments.procedures.procedure import Running
from experiments.procedures.sweep_options import SweepOptions
from experiments.records.store import read
from experiments.spec.study import Study

QUICK = Running(train={"execution": "scan", "workers": 1})
ORDER = ("warmup", "clipping", "another optimizer", "architecture", "a lower rate")


def digits(**fields):
    return Study(
        name="digits", question="What limits the rate?", batch_sizes=(64,), step_budget=60,
        example_budget=64, **{"optimizer": "sgd", "workload": TINY, **fields},
    )  # fmt: skip


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fix") / "d"
    options = SweepOptions(rates=(0.5, 16.0), factor=4.0, running=QUICK)
    return diagnose(digits(), folder, options, fix=True)


def test_remedies_are_tried_in_their_order_at_the_unstable_rate_until_one_cures(fixed):
    tried = fixed.values["fixes"]
    names = [one["name"] for one in tried]
    assert names == [*ORDER[: len(names)]] and len(names) >= 2
    assert [one["cured"] for one in tried] == [False] * (len(tried) - 1) + [True]
    stages = json.loads((fixed.folder / "verdict.json").read_text())["stages"]
    trained = [stage.partition("-fix-")[2] for stage in stages if "-fix-" in stage]
    assert trained == [{"another optimizer": "optimizer"}.get(name, name) for name in names]
    unstable = fixed.values["unstable_base_learning_rate"]
    for stage in stages:
        if stage.endswith(("fix-warmup", "fix-clipping")):
            rates = read(fixed.folder / stage).trials["learning_rate"].to_list()
            assert rates == [unstable] * len(rates)


def test_what_cured_is_said_and_is_a_study_to_run(fixed):
    cured = fixed.values["fixes"][-1]
    said = [noted.text for noted in fixed.said.noted]
    assert f"Cured by {cured['name']}" in cured["sentence"] and cured["sentence"] in said
    assert all(one["sentence"].startswith("Not cured by") for one in fixed.values["fixes"][:-1])
    assert fixed.said.next.command == f"batchscale run {fixed.folder / 'cured.py'}"
    study = studies.get(str(fixed.folder / "cured.py")).resolved
    held = {"optimizer": study.optimizer, **study.fixed}
    assert cured["settings"].items() <= held.items()
    page = (fixed.folder / "report" / "index.html").read_text()
    assert all(one["sentence"].split(":")[0] in page for one in fixed.values["fixes"])
