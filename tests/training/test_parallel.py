"""Devices and micro-batches: how a batch is cut, and that cutting it changes nothing."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.engine_factory import resident_digits, tiny_study
from support.parallel_factory import SIMULATED, STRICT, apart, difference, mixed_program, trained

from experiments.cli import main
from experiments.records.store import read
from experiments.report.facts import micro_batches
from experiments.runner.study import run_study
from experiments.training.cuts import check_cuts
from experiments.training.layout import Layout
from experiments.training.program import Program
from experiments.training.sharding import cut
from workloads.models.normalization import ghost_sizes

ROUNDING = 2e-6
"""Of float32 sums in another order, over six to eleven steps."""
HERE = Path(__file__).parents[1]
NAMES = ["pmap 8", "shard_map 8", "micro-batches", "trials 4, data 2", "trials 2"]


@pytest.fixture(scope="module")
def child():
    """What `parallel_child` prints on eight simulated devices."""
    command = [sys.executable, *STRICT, str(HERE / "support" / "parallel_child.py")]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env={**os.environ, **SIMULATED}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def differences(child):
    """(measurements, final state) of every layout against one device."""
    return child["differences"]


@pytest.mark.parametrize("name", NAMES)
def test_devices_change_nothing_but_rounding(differences, name):
    """27 examples a step, dropout, ghost batches of 4, label smoothing, clipping, momentum."""
    assert max(differences[name]) < ROUNDING


def test_the_child_tried_all_of_them(differences):
    assert sorted(differences) == sorted(NAMES)


def test_the_plan_chooses_among_the_devices_there_are(child):
    found = child["plans"]
    spread = [
        "packed x 8, shard_map trials=8,data=1",
        "packed x 64, shard_map trials=8,data=1",
        "packed x 4, shard_map trials=4,data=2",
        "scan, pmap trials=1,data=8",
    ]
    assert found["candidates"] == ["scan", "loop", "packed x 8", *spread]
    # Second-order rules: nothing that cuts a batch or packs trials on a device.
    assert found["whole"] == ["scan", "loop", spread[0]]


def test_a_mesh_is_recorded_and_a_resume_uses_it(child):
    found = child["plans"]
    layout = {"how": "shard_map", "trials": 4, "data": 2}
    assert found["recorded"] == [
        {"27": {"mode": "packed", "slots": 4, "layout": layout, "evaluation_batch": 1024}}
    ]
    assert found["device"] == "cpu (cpu) x 8"
    assert found["workers"] == 1  # two packs that exchange sums would wait for each other
    assert found["trials"] == 2


def test_wishes_that_do_not_go_together_are_refused_in_one_line(child):
    assert child["refused"] == [
        "--mesh trials=4,data=4 is for 16 devices, there are 8 devices",
        "--mesh trials must be a power of two, got 3",
        "--parallel pmap takes all devices for a trial: no place for --mesh",
        "--execution packed has no place with pmap trials=1,data=8",
        "--execution loop has no place with shard_map trials=8,data=1",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mesh", "trials=4,data=2"], "is for 8 devices, there is 1 device"),
        (["--mesh", "4x2"], "argument --mesh: must be trials=T,data=D, got '4x2'"),
        (["--micro-batch", "0"], "must be a whole number of at least 1, got '0'"),
        (["--optimizer", "lbfgs", "--micro-batch", "8"], "lbfgs needs the loss of the whole batch"),
    ],
)
def test_bad_input_is_one_line_and_changes_nothing(arguments, message, tmp_path, capsys):
    out = tmp_path / "never"
    command = ["run", "quickstart", "--smoke", "--out", str(out), *arguments]
    try:
        code = main(command)
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2 and not out.exists()
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_micro_batches_are_recorded_and_the_report_says_what_they_do_not_buy(tmp_path):
    study = tiny_study(batch_sizes=(64,), trials=1)
    for size in (1, 16):  # without batch norm any size is legal
        check_cuts(study.config("off"), resident_digits().train, Layout(micro_batch=size), (64,))
    run_study(study, tmp_path / "s", execution="loop", layout=Layout(micro_batch=16))
    record = read(tmp_path / "s")
    execution = {
        "mode": "loop", "slots": 1, "layout": {"micro_batch": 16}, "evaluation_batch": 1024
    }  # fmt: skip
    assert record.study["plans"][0]["executions"] == {"64": execution}
    assert "at most 16 examples" in micro_batches(record.study)
    assert "no throughput" in micro_batches(record.study)
    assert micro_batches({}) == ""


@pytest.fixture(scope="module")
def alone():
    program = mixed_program()
    return program, *trained(program)


def test_virtual_replicas_change_nothing_but_rounding(alone):
    """Six ghost batches on eight replicas: two have nothing, and their gradient is zero."""
    program, results, state = alone
    virtual, end = trained(program, Layout("vmap", data=8))
    assert np.isfinite(virtual[0].norms["gradient_norm"]).all()
    assert apart(virtual, results) < ROUNDING
    assert difference(end, state) < ROUNDING


@pytest.mark.parametrize(("size", "parts"), [(67, 1), (27, 3), (11, 8)])
def test_micro_batches_equal_the_whole_batch(size, parts, alone, micro_expected):
    program, *_ = alone
    results, state = micro_expected
    layout = Layout(micro_batch=size)
    places = program.at(layout).assignment(67)
    assert (1 if places is None else len(places.weights)) == parts
    found, end = trained(program, layout, batch_size=67)
    assert apart(found, results) < ROUNDING
    assert difference(end, state) < ROUNDING


@pytest.fixture(scope="module")
def micro_expected(alone):
    return trained(alone[0], batch_size=67)


def test_micro_batches_in_a_pack_and_dispatched_one_by_one(alone):
    program, results, _ = alone
    layout = Layout(micro_batch=11)
    dispatched, _ = trained(program, layout, mode="loop")
    packed, _ = trained(program, layout, slots=2, trials=2, mode="packed")
    assert apart(dispatched, results) < ROUNDING
    assert apart({0: packed[0]}, results) < ROUNDING


@given(
    batch_size=st.integers(1, 300),
    data=st.integers(1, 9),
    together=st.sampled_from([1, 2, 4, 32, None]),
    micro_batch=st.none() | st.integers(1, 80),
)
def test_a_batch_is_cut_at_ghost_borders_and_every_example_counts_once(
    batch_size, data, together, micro_batch
):
    layout = Layout("jit" if data == 1 else "vmap", 1, data, micro_batch)
    groups, last = ghost_sizes(batch_size, together)
    if micro_batch is not None and last > micro_batch:
        with pytest.raises(ValueError, match=f"statistics over {last} examples together"):
            cut(batch_size, layout, together)
        return
    places = cut(batch_size, layout, together)
    if places is None:
        assert data == 1 and (micro_batch is None or batch_size <= micro_batch)
        return
    pieces, rows = places.position.shape
    assert pieces % data == 0 and rows <= (micro_batch or batch_size)
    assert places.position[places.weights == 1].tolist() == list(range(batch_size))
    # What batch norm will take together in a piece is one ghost batch of the whole, or padding.
    borders = [(together or 0) * i for i in range(groups)] + [batch_size - last, batch_size]
    whole = [list(range(a, b)) for a, b in itertools.pairwise(borders) if a < b]
    inside, rest = ghost_sizes(rows, together)
    cuts = [(together or 0) * i for i in range(inside)] + [rows - rest, rows]
    for position, weights in zip(places.position, places.weights, strict=True):
        for a, b in itertools.pairwise(cuts):
            real = position[a:b][weights[a:b] == 1].tolist()
            assert not real or real in whole
            # Padding repeats an example of its own ghost batch.
            assert not real or set(position[a:b]) <= set(real)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"how": "pmapped"}, "how must be one of jit, pmap, shard_map, vmap, got 'pmapped'"),
        ({"data": 2}, "jit runs on one device, got trials=1 data=2"),
        ({"how": "pmap", "trials": 2}, "pmap spreads one trial, got trials=2"),
        ({"how": "shard_map", "trials": 0}, "trials must be at least 1, got 0"),
        ({"micro_batch": 0}, "micro_batch must be at least 1, got 0"),
    ],
)
def test_what_a_layout_cannot_be_is_refused_by_name(fields, message):
    with pytest.raises(ValueError, match=message):
        Layout(**fields)


def test_more_devices_than_there_are_is_refused(alone):
    with pytest.raises(ValueError, match="trials=1,data=3 needs 3 devices, there are 1"):
        alone[0].at(Layout("pmap", data=3))


def test_rules_that_need_the_loss_are_refused_where_batches_are_cut():
    study = tiny_study(optimizer="lbfgs")
    for layout in (Layout("vmap", data=2), Layout(micro_batch=8)):
        with pytest.raises(ValueError, match="lbfgs needs the loss of the whole batch"):
            Program(study.config("off"), resident_digits(), 1e4, layout)
