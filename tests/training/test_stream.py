"""Training data streamed from disk: the same results to the bit as data on the device."""

from __future__ import annotations

import copy
import dataclasses
import threading
from concurrent import futures

import jax
import numpy as np
import pytest
from support.engine_factory import (
    TINY,
    Watched,
    resident_digits,
    same_bits,
    tiny_study,
    tiny_trial,
)

from experiments.records.store import read as read_record
from experiments.runner.study import run_study
from experiments.spec.errors import StudyError
from experiments.training import feed, prefetch
from experiments.training.feed import Feed, ResidentData, is_streamed
from experiments.training.layout import SCAN, Execution, Layout
from experiments.training.order import ExampleOrder
from experiments.training.population import Population
from experiments.training.program import Program
from experiments.training.resume import Checkpoints
from workloads.datasets import DATASETS, Dataset, DatasetSpec, load
from workloads.datasets.base import DataError, Stored

SPLITS = load("digits").splits
EXAMPLES = 1024


def stored(read=lambda numbers: None):
    """The digits' training split as if it lay on disk; ``read`` hears of every reading."""

    def rows(numbers):
        read(numbers)
        return {role: array[numbers] for role, array in SPLITS["train"].items()}

    return Stored(EXAMPLES, rows, "digits")


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("reader")]


@pytest.fixture
def small_windows(monkeypatch):
    """Windows of a few steps, blocks of a batch or two: every border occurs in a short trial."""
    monkeypatch.setattr(feed, "WINDOW_BYTES", 1 << 15)
    monkeypatch.setattr(feed, "BLOCK_BYTES", 1 << 12)


@pytest.fixture(scope="module")
def programs():
    """Resident and streamed, with the norms at evaluations, which need the following batch."""
    study = tiny_study()
    streamed = ResidentData.put({**SPLITS, "train": stored()}, 256, stream=True)
    assert len(streamed.train["inputs"]) == 256 and streamed.examples == EXAMPLES
    return [
        Program(study.config("evaluations"), data, study.divergence_factor)
        for data in (resident_digits(), streamed)
    ]


def trained(program, trials, execution=SCAN):
    """Results by index, and the final parameters of the trials that did not diverge."""
    pending, results = list(trials), {}
    population = Watched(program, trials[0].batch_size, execution)
    population.run(
        lambda: pending.pop(0) if pending else None,
        lambda result: results.__setitem__(result.trial.index, result),
    )
    complete = [index for index, result in results.items() if result.status == "COMPLETE"]
    return results, {i: jax.tree.leaves(population.last[i].params) for i in complete}


@pytest.mark.parametrize(("mode", "slots"), [("scan", 1), ("packed", 4), ("loop", 1)])
def test_streamed_is_resident_to_the_bit(programs, small_windows, mode, slots):
    # Over an epoch's end (128 steps), unequal lengths, more trials than slots, one that diverges.
    trials = [tiny_trial(i, train_steps=130 + 7 * i) for i in range(5 if slots > 1 else 2)]
    trials.append(tiny_trial(9, train_steps=40, learning_rate=1e6))
    (resident, expected), (streamed, found) = (
        trained(program, trials, Execution(mode, slots)) for program in programs
    )
    assert resident.keys() == streamed.keys() == {trial.index for trial in trials}
    for index, result in resident.items():
        assert same_bits(result.evaluations, streamed[index].evaluations)
        assert (result.status, result.steps) == (streamed[index].status, streamed[index].steps)
    assert {result.status for result in resident.values()} == {"COMPLETE", "INFEASIBLE"}
    assert "gradient_norm" in resident[0].evaluations
    assert expected.keys() == found.keys() and 0 in found
    for index, leaves in expected.items():
        assert all(map(np.array_equal, leaves, found[index]))
    # One program however the window was filled, as where everything is on the device.
    key = ("loop" if mode == "loop" else "chunk", 8, slots)
    assert programs[1].traces[key] == programs[0].traces[key] == 1
    assert not reading_threads()


def test_streamed_is_resident_where_examples_are_spread_over_devices(programs, small_windows):
    trials, layout = [tiny_trial(0, train_steps=12)], Layout("vmap", data=2)
    (resident, expected), (streamed, found) = (
        trained(program, trials, Execution("scan", 1, layout)) for program in programs
    )
    assert same_bits(resident[0].evaluations, streamed[0].evaluations)
    assert all(map(np.array_equal, expected[0], found[0]))


def test_a_streamed_trial_resumes_to_the_bit(programs, small_windows, tmp_path):
    trial = tiny_trial(0, train_steps=150)
    expected = trained(programs[0], [trial])[0][0]
    checkpoints = Checkpoints(tmp_path, TINY.goal, seconds=float("inf"), warn=pytest.fail)
    pending, results = [trial], []

    def population(advanced):
        running = Population(programs[1], 8, checkpoints=checkpoints)
        running.run(lambda: pending.pop() if pending else None, results.append, advanced)
        return running

    stopped = population(lambda steps: False)  # in the first epoch
    assert 0 < stopped.steps_under_way < 128 and not results
    stopped.save()
    pending.append(trial)
    population(lambda steps: True)
    assert same_bits(results[0].evaluations, expected.evaluations)


def test_a_whole_study_leaves_the_same_record(tmp_path):
    study = tiny_study(trials=2, batch_sizes=(64,))
    one, other = (
        read_record(run_study(study, tmp_path / name, execution="scan", stream=stream))
        for name, stream in (("resident", None), ("streamed", True))
    )
    assert one.study["identity"] == other.study["identity"]
    assert one.evaluations.equals(other.evaluations)
    kept = [name for name in one.trials.columns if name != "seconds"]
    assert one.trials.select(kept).equals(other.trials.select(kept))


def test_readings_are_what_was_asked_for_however_it_is_cut():
    order, random = ExampleOrder(0, 0, EXAMPLES), np.random.default_rng(0)
    with futures.ThreadPoolExecutor(2, "reader") as pool:
        ahead = prefetch.Prefetcher(pool, stored(), block=24, ahead=64)
        following = order.take(8)
        for turn in range(60):
            if turn == 30:  # another trial takes the slot
                order = ExampleOrder(0, 1, EXAMPLES)
                following = order.take(8)
            wanted = np.concatenate([following, order.take(8 * int(random.integers(1, 20)))])
            place = copy.copy(order)
            pieces = ahead.take(wanted, order, 8)
            found = {r: np.concatenate([p[r] for p in pieces]) for r in ("inputs", "targets")}
            for role, rows in found.items():
                assert np.array_equal(rows, SPLITS["train"][role][wanted])
            assert (order.epoch, order.offset) == (place.epoch, place.offset)
            following = wanted[-8:]


def test_what_is_read_ahead_is_bounded_and_nothing_is_read_twice(small_windows, monkeypatch):
    monkeypatch.setattr(feed, "readers", lambda: 2)
    asked = []
    heard = Feed(SPLITS["train"], stored(lambda numbers: asked.append(len(numbers))), 8, 1)
    order, most = ExampleOrder(0, 0, EXAMPLES), heard.most_steps
    assert 1 < most < 20
    with heard:
        following, chunks = order.take(8), 40
        for _ in range(chunks):
            numbers = np.zeros((most + 1, 1, 8), np.int32)
            numbers[:, 0] = np.concatenate([following, order.take(8 * most)]).reshape(-1, 8)
            window = heard.window(numbers, [order], most)
            assert window.train["inputs"].shape == ((most + 1) * 8, 64)
            following = numbers[-1, 0]
    consumed = 8 * (chunks * most + 1)
    block = max(asked)
    assert consumed <= sum(asked) <= consumed + 8 * most + block


def test_one_large_batch_keeps_every_thread_at_work(small_windows, monkeypatch):
    """Four threads meet in the readings of a single batch: none of them waits for another's."""
    monkeypatch.setattr(feed, "readers", lambda: 4)
    met = threading.Event()
    together = threading.Barrier(4, met.set, timeout=30)

    def meet(numbers):
        if len(numbers) > 1 and not met.is_set():
            together.wait()

    order = ExampleOrder(0, 0, EXAMPLES)
    numbers = order.take(2 * 256).reshape(2, 1, 256)
    with Feed(SPLITS["train"], stored(meet), 256, 1) as heard:
        assert heard.most_steps == 1
        window = heard.window(numbers, [order], 1)
    assert met.is_set()
    found = window.train["targets"][window.stream]
    assert np.array_equal(found, SPLITS["train"]["targets"][numbers])


def test_two_gibibytes_decide_and_an_option_overrides(monkeypatch, tmp_path):
    train = SPLITS["train"]
    size = sum(array.nbytes for array in train.values())
    monkeypatch.setattr(feed, "RESIDENT_BYTES", size)
    assert not is_streamed(train) and not is_streamed(stored())
    monkeypatch.setattr(feed, "RESIDENT_BYTES", size - 1)
    assert is_streamed(train) and is_streamed(stored())
    np.save(tmp_path / "inputs.npy", train["inputs"])
    mapped = {**train, "inputs": np.load(tmp_path / "inputs.npy", mmap_mode="r")}
    data = ResidentData.put({**SPLITS, "train": mapped}, 8)
    assert data.stored is mapped and len(data.train["inputs"]) == 256
    whole = ResidentData.put({**SPLITS, "train": stored()}, 8, stream=False)
    assert whole.stored is None
    assert np.array_equal(whole.train["inputs"], train["inputs"])


def test_a_failing_disk_names_the_file_and_leaves_no_thread(tmp_path, monkeypatch):
    def fail(numbers):
        if len(reading_threads()) and 700 in numbers:
            raise DataError("/data/train-3.array_record: record 700 cannot be read")

    def load_failing(*, data_dir=None):
        del data_dir
        return Dataset("failing", {**SPLITS, "train": stored(fail)}, 10)

    monkeypatch.setitem(DATASETS, "failing", DatasetSpec("x:y", {"train": EXAMPLES}, ""))
    monkeypatch.setattr("workloads.datasets._loader", lambda name: load_failing)
    study = tiny_study(workload=dataclasses.replace(TINY, dataset="failing"), batch_sizes=(64,))
    with pytest.raises(StudyError, match=r"/data/train-3\.array_record: record 700 cannot"):
        run_study(study, tmp_path / "failing", execution="scan", stream=True)
    assert not reading_threads()
    for row in read_record(tmp_path / "failing").trials.rows(named=True):
        assert row["status"] == "INCOMPLETE" and "record 700" in row["message"]


def test_an_interrupt_ends_the_readers(programs):
    def interrupt(steps):
        assert reading_threads()
        raise KeyboardInterrupt

    population = Population(programs[1], 8)
    with pytest.raises(KeyboardInterrupt):
        population.run(lambda: tiny_trial(0), lambda result: None, interrupt)
    assert not reading_threads()
