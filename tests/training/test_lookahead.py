"""Chunks dispatched ahead of results; programs and data made once; injected measurements."""

from __future__ import annotations

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from support.engine_factory import (
    Watched,
    resident_digits,
    same_bits,
    tiny_program,
    tiny_study,
    tiny_trial,
    train,
)

from experiments.training import pace
from experiments.training.computation import Measurement
from experiments.training.layout import SCAN, Execution, Layout
from experiments.training.population import Population
from experiments.training.program import Program

PACKED = Execution("packed", 4)


@pytest.mark.parametrize("execution", [SCAN, PACKED, Execution("loop")], ids=str)
def test_looking_ahead_leaves_every_bit_and_finds_a_divergence_one_chunk_later(
    execution, monkeypatch
):
    """Seven trials of unequal lengths, two of which diverge, in chunks of a few steps."""
    monkeypatch.setattr(pace, "TARGET_CHUNK_SECONDS", 0.0)
    monkeypatch.setattr(pace, "FIRST_CHUNK_STEPS", 3)
    rates = [0.05, 1e6, 0.03, 0.02, 1e9, 0.04, 0.1]
    trials = [
        tiny_trial(i, batch_size=7, train_steps=20 + 3 * i, learning_rate=rate)
        for i, rate in enumerate(rates)
    ]
    program = tiny_program("every")
    one, other = (
        train(trials, program=program, execution=execution, lookahead=lookahead)
        for lookahead in (False, True)
    )
    assert [one[i].status == "INFEASIBLE" for i in range(7)] == [i in (1, 4) for i in range(7)]
    for i, result in one.items():
        assert (result.status, result.steps) == (other[i].status, other[i].steps)
        assert same_bits(result.evaluations, other[i].evaluations)
        assert same_bits(result.norms, other[i].norms)


def test_the_next_chunk_is_dispatched_before_the_results_of_one_are_fetched():
    order = []

    class Listed(Population):
        def _dispatch(self, *arguments):
            order.append("dispatch")
            return super()._dispatch(*arguments)

        def _fetch(self):
            order.append("fetch")
            return super()._fetch()

    def listed(lookahead):
        order.clear()
        pending, chunks = [tiny_trial(0, train_steps=10_000)], iter(range(3))
        population = Listed(tiny_program(), 8, lookahead=lookahead)
        population.run(
            lambda: pending.pop() if pending else None,
            lambda result: None,
            lambda steps: next(chunks, None) is not None,
        )
        return order[:4], order.count("dispatch") == order.count("fetch"), population

    found, whole, population = listed(True)
    assert found == ["dispatch", "dispatch", "fetch", "dispatch"]
    assert whole  # what is under way at the stop is waited for
    assert population.steps_under_way > 0 and len(population.trials) == 1
    assert listed(False)[0] == ["dispatch", "fetch"] * 2


def test_a_trial_that_has_not_returned_is_among_those_that_failed(monkeypatch):
    """The results of a chunk are lost after its trial's slot was taken by the next one."""
    pending = [tiny_trial(0, train_steps=8), tiny_trial(1, train_steps=8)]
    population = Population(tiny_program(), 8)

    def lost(self):
        raise MemoryError

    monkeypatch.setattr(Population, "_fetch", lost)
    with pytest.raises(MemoryError):
        population.run(lambda: pending.pop(0) if pending else None, lambda result: None)
    assert [trial.index for trial in population.trials] == [0, 1]


def test_threads_that_ask_together_get_one_program():
    program = Program(tiny_study().config("off"), resident_digits(), 1e4)
    together, found = threading.Barrier(8), []

    def ask():
        together.wait()
        found.append(program.at(Layout(micro_batch=5)))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8 and len(set(map(id, found))) == 1


def test_data_lie_once_on_a_set_of_devices_and_go_with_the_last_layout_that_needs_them():
    program = Program(tiny_study().config("off"), resident_digits(100), 1e4)
    layouts = [Layout(micro_batch=5), Layout("pmap"), Layout("shard_map"), Layout("vmap", data=2)]
    programs = [program.at(layout) for layout in layouts]
    whole = [id(p.train["inputs"]) for p in programs]
    # The default device's own, for one device and for virtual ones; one more for the named mesh.
    assert whole[0] == whole[3] == id(program.train["inputs"])
    assert whole[1] == whole[2] != whole[0]
    for p in programs:
        assert p.evaluation(64) is p.evaluation(64)
    data = program._data
    assert len(data._train) == 2 and len(data._evaluation) == 4
    program.keep([layouts[1]])
    assert program.at(layouts[1]) is programs[1] and program.at(layouts[0]) is not programs[0]
    assert len(data._train) == 2
    program.keep([])
    assert len(data._train) == 1 and {key[0] for key in data._evaluation} == {()}


# Injected measurements.


def largest(state, hyperparameters, batch, *, axis_name=None):
    """The parameter of the largest magnitude (exact in any order), and what it was measured on."""
    del axis_name
    sizes = [jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(state.params)]
    rate = hyperparameters["learning_rate"]
    return {"parameter": jnp.max(jnp.stack(sizes)), "twice": jnp.stack([rate, 2 * rate])}


def examples(state, hyperparameters, data, *, axis_name=None):
    del state, hyperparameters, axis_name
    return {"count": jnp.sum(data["weights"])}


MEASUREMENTS = (
    Measurement("largest", largest),
    Measurement("batch", examples),
    Measurement("evaluation", examples, data="evaluation"),
)


@pytest.mark.parametrize("execution", [SCAN, PACKED, Execution("loop")], ids=str)
def test_an_injected_measurement_reaches_the_result_to_the_bit(execution):
    study = tiny_study()
    measuring = Program(
        study.config("off"),
        resident_digits(),
        study.divergence_factor,
        measurements=MEASUREMENTS,
    )
    trials = [tiny_trial(i, train_steps=12 + i, learning_rate=0.02 * (i + 1)) for i in range(4)]
    pending, results = list(trials), {}
    population = Watched(measuring, 8, execution)
    population.run(
        lambda: pending.pop(0) if pending else None,
        lambda result: results.__setitem__(result.trial.index, result),
    )
    plain = train(trials, execution=execution)
    for i, result in results.items():
        found = dict(result.evaluations)
        measured = {name: found.pop(name) for name in list(found) if name.startswith("measured/")}
        assert same_bits(found, plain[i].evaluations)
        last = max(np.abs(leaf).max() for leaf in jax.tree.leaves(population.last[i].params))
        assert measured["measured/largest/parameter"][-1] == last
        rate = np.float32(0.02 * (i + 1))
        assert (measured["measured/largest/twice/0"] == rate).all()
        assert (measured["measured/largest/twice/1"] == 2 * rate).all()
        assert (measured["measured/batch/count"] == 8).all()
        assert (measured["measured/evaluation/count"] == 384 + 256).all()
        assert all(len(column) == len(found["step"]) for column in measured.values())
