"""diagnose --fix on real training: remedies in the stated order, and which one cured."""

from __future__ import annotations

import json

import pytest
from support.engine_factory import TINY

from experiments.procedures.diagnose import diagnose
from experiments.procedures.procedure import Running
from experiments.procedures.sweep_options import SweepOptions
from experiments.spec.study import Study

QUICK = Running(train={"execution": "scan", "workers": 1})
ORDER = ("warmup", "clipping", "another optimizer", "architecture", "a lower rate")


def digits(**fields):
    return Study(
        name="digits", question="What limits the rate?", batch_sizes=(64,), step_budget=100,
        example_budget=64, **{"optimizer": "sgd", "workload": TINY, **fields},
    )  # fmt: skip


@pytest.fixture(scope="module")
def fixed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fix") / "d"
    options = SweepOptions(rates=(0.5, 16.0), factor=4.0, running=QUICK)
    return diagnose(digits(), folder, options, fix=True)


def test_remedies_are_tried_in_their_order_at_the_unstable_rate_until_one_cures(fixed):
    tried = fixed.values["fixes"]
    print(json.dumps(fixed.values, indent=1)[:6000])
    names = list(dict.fromkeys(one["name"] for one in tried))
    assert names == [*ORDER[: len(names)]]
    assert [one["cured"] for one in tried] == [False] * (len(tried) - 1) + [True]
    assert 0
