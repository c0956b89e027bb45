"""Checkpoints: what is kept, what a damaged one does, and that a resumed trial is the same bits."""

from __future__ import annotations

import math
import os
import random
import shutil
import signal

import jax
import numpy as np
import pytest
from support.checkpoint_child import (
    begun_in,
    run_long_study,
    steps_in,
)
from support.engine_factory import Watched, same_bits, tiny_program, tiny_study, tiny_trial, train
from support.kill_storms import assert_same_study, killed_while_training

from experiments.runner.study import run_study
from experiments.runtime.stopping import Preempted
from experiments.spec.trial import Status
from experiments.training import checkpoint
from experiments.training.checkpoint import CheckpointError, named
from experiments.training.layout import SCAN, Execution, Layout
from experiments.training.population import Population
from experiments.training.resume import CHECKPOINTS_FOLDER, Checkpoints
from experiments.training.saving import Saving, executed_how
from workloads.digits_fc import WORKLOAD

ARRAYS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "half": np.ones(3, jax.numpy.bfloat16),
    "wide": np.array([0.1, np.nan, -np.inf]),
    "key": np.array([7, 2**32 - 1], np.uint32),
    "state['a/b'][0].count": np.int32(5),
    "nothing": np.zeros((0, 4), np.float32),
}
NEVER = math.inf


def no_warning(line):
    raise AssertionError(line)


def checkpoints_in(folder, seconds=0.0, warn=no_warning):
    """Checkpoints by the digits' goal."""
    return Checkpoints(folder, WORKLOAD.goal, seconds, warn)


def test_a_checkpoint_returns_every_bit(tmp_path):
    checkpoint.save(tmp_path / "one", 3, ARRAYS, {"step": 3, "seconds": 0.1}, 0.5)
    saved = checkpoint.newest(tmp_path / "one", no_warning)
    assert (saved.step, saved.about) == (3, {"step": 3, "seconds": 0.1})
    assert same_bits(saved.arrays, {k: np.asarray(v) for k, v in ARRAYS.items()})
    assert all(saved.arrays[k].dtype == np.asarray(v).dtype for k, v in ARRAYS.items())


@pytest.mark.parametrize(
    ("ranks", "kept"),
    [
        ([0.5, 0.4, 0.6, 0.7, 0.8], [2, 4, 5]),  # a worsening metric does not cost the newest
        ([0.5, 0.4, math.nan, None, math.inf], [2, 4, 5]),  # a NaN is never the best
        ([math.nan, 0.9, None, None, None], [2, 4, 5]),
        ([0.3, 0.4, 0.3, 0.4, 0.4], [1, 4, 5]),  # the earlier of equal ones
        ([None] * 5, [4, 5]),
        ([0.5, 0.4, 0.3, 0.2, 0.1], [4, 5]),
    ],
)
def test_the_newest_two_and_the_best_are_kept(tmp_path, ranks, kept):
    folder = tmp_path / CHECKPOINTS_FOLDER / "8" / "0-0"
    for step, rank in enumerate(ranks, start=1):
        checkpoint.save(folder, step, {"x": np.ones(2)}, {}, rank)
    assert steps_in(folder) == kept
    checkpoint.keep_best(folder)
    finite = [r for r in ranks if r is not None and math.isfinite(r)]
    if finite:
        assert steps_in(folder) == [1 + ranks.index(min(finite))]
    else:
        assert list(tmp_path.iterdir()) == []


def damage(folder, how):
    """What a disk, or a kill in the middle of a removal, may leave of a checkpoint."""
    if how == "half removed":
        shutil.rmtree(folder / "about")
        (folder / "_CHECKPOINT_METADATA").unlink()
        shutil.rmtree(folder / "metrics")
        return
    for path in (folder / "arrays").rglob("*"):
        if path.is_file() and path.stat().st_size > 20_000:
            raw = bytearray(path.read_bytes())
            raw[len(raw) // 2] ^= 16
            path.write_bytes(raw[:-20] if how == "truncated" else raw)


@pytest.mark.parametrize("how", ["truncated", "flipped", "half removed"])
def test_a_damaged_checkpoint_is_passed_over_for_the_older_one(tmp_path, how):
    noise = np.random.default_rng(0).random(5000)  # nothing that compression could hide
    for step in (1, 2):
        checkpoint.save(tmp_path, step, {"x": noise + step}, {"n": step}, 1.0 / step)
    damage(tmp_path / "2", how)
    said: list[str] = []
    saved = checkpoint.newest(tmp_path, said.append)
    assert saved is not None and saved.step == 1
    np.testing.assert_array_equal(saved.arrays["x"], noise + 1)
    assert len(said) == 1 and f"the checkpoint {tmp_path / '2'} is damaged" in said[0]
    # Training goes on from step 1 and saves step 2 again.
    checkpoint.forget_after(tmp_path, 1)
    checkpoint.save(tmp_path, 2, {"x": noise}, {"n": 3}, 0.1)
    assert checkpoint.newest(tmp_path, no_warning).about == {"n": 3}
    damage(tmp_path / "1", how)
    damage(tmp_path / "2", how)
    assert checkpoint.newest(tmp_path, said.append) is None


def all_of(population, results):
    """Emits a result together with the trial's last state."""

    def emit(result):
        index = result.trial.index
        results[index] = (result, named("", population.last[index]))

    return emit


def trained(trials, folder=None, stop_after=NEVER, execution=SCAN, lookahead=True, save=True):
    """index -> (result, last state); after ``stop_after`` chunks all is (saved and) dropped."""
    kept = checkpoints_in(folder, NEVER, lambda line: None) if folder else None
    program, pending, results, chunks = tiny_program("every"), list(trials), {}, [0]
    population = Watched(program, 8, execution, checkpoints=kept, lookahead=lookahead)

    def advanced(steps):
        chunks[0] += 1
        return chunks[0] < stop_after

    population.run(
        lambda: pending.pop(0) if pending else None, all_of(population, results), advanced
    )
    if save:
        population.save()
    return results


def assert_same_trials(one, other):
    """Equal to the bit but for the clock."""
    assert one.keys() == other.keys()
    for index, (result, state) in one.items():
        again, state_again = other[index]
        assert same_bits(result.evaluations, again.evaluations)
        assert same_bits(result.norms, again.norms)
        assert same_bits(state, state_again)
        assert (result.status, result.steps) == (again.status, again.steps)


@pytest.mark.parametrize(
    "execution",
    [
        SCAN,
        Execution("loop"),
        Execution("packed", 4),
        Execution("scan", 1, Layout("vmap", data=2, micro_batch=3)),
    ],
    ids=str,
)
def test_chunk_lengths_and_a_resume_leave_every_bit(tmp_path, monkeypatch, execution):
    """The lengths of chunks are the clock's, so here they are drawn; the places change too."""
    how = {"execution": execution}
    trials = [tiny_trial(i, train_steps=200 + 30 * i) for i in range(execution.slots)]
    undisturbed = trained(trials, **how, lookahead=False)
    assert_same_trials(trained(trials, **how), undisturbed)
    chance = random.Random(5)
    usual = Population._length
    monkeypatch.setattr(Population, "_length", lambda self: chance.randint(1, min(12, usual(self))))
    assert_same_trials(trained(trials, **how), undisturbed)
    assert trained(trials, tmp_path, 12, **how) == {}
    resumed = trained(trials[::-1], tmp_path, **how)
    assert_same_trials(resumed, undisturbed)
    begun = [checkpoint.newest(checkpoints_in(tmp_path).of(t), no_warning).step for t in trials]
    assert min(begun) > 5


def test_a_trial_is_saved_by_the_clock_and_at_its_best(tmp_path, monkeypatch):
    """With every chunk "long", each best evaluation is saved and none that is not."""
    saved = []
    monkeypatch.setattr(
        checkpoint, "save", lambda folder, step, arrays, about, rank: saved.append((step, rank))
    )
    kept = checkpoints_in(tmp_path, 1e-9)
    trial = tiny_trial(0)
    pending = [trial]
    population = Watched(tiny_program(), 8, checkpoints=kept)
    monkeypatch.setattr(Saving, "due", _only_best)
    results = {}
    population.run(lambda: pending.pop() if pending else None, all_of(population, results))
    table = results[0][0].evaluations
    errors = table["validation/classification_error"]
    new = [i for i in range(len(errors) - 1) if errors[i] < min(errors[:i], default=np.inf)]
    best = [i for i in new if table["step"][i] >= 8]  # the first chunk is of 8 steps
    assert [(int(table["step"][i]), errors[i]) for i in best] == saved


def _only_best(saving, slot):
    slot.saved_at = slot.ran  # as if the clock had just saved
    saving._saving = 0.0
    return _DUE(saving, slot)


_DUE = Saving.due


def test_short_trials_save_nothing(tmp_path):
    run_study(tiny_study(trials=1), tmp_path / "short", execution="scan")
    names = {path.name for path in (tmp_path / "short").iterdir()}
    assert names == {"study.json", "records", "lock"}


def test_another_configuration_another_plan_and_a_full_disk(tmp_path):
    program, (trial,) = tiny_program("every"), [tiny_trial(0, train_steps=400)]
    trained([trial], tmp_path, 1)
    kept = checkpoints_in(tmp_path)
    other = tiny_trial(0, train_steps=500)
    object.__setattr__(other, "identity", "another")
    with pytest.raises(CheckpointError, match=r"0-0 holds checkpoints of another configuration"):
        kept.check(other)
    kept.check(trial)
    said: list[str] = []
    assert checkpoints_in(tmp_path, warn=said.append).newest(trial, "packed x 8") is None
    assert "0-0 was saved under another plan (scan x 1, " in said[0]
    assert "now packed x 8): the trial starts again" in said[0]
    # Another evaluation batch (halved where memory was full) changes last bits of the evaluations.
    executions = [Execution("scan", evaluation_batch=size) for size in (1024, 512, None)]
    hows = [executed_how(execution, program) for execution in executions]
    assert len(set(hows)) == 3 and "evaluation batch 512" in hows[1]
    there = steps_in(kept.of(trial))[-1]  # where nothing is left to train, how does not matter
    assert kept.newest(trial, "packed x 8", there).step == there
    # A state of another structure: the trial starts again, from its first step.
    wider = tiny_program("every", optimizer="adam")
    values = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8}
    adam = tiny_trial(0, train_steps=400, **values)
    population = Population(wider, 8, checkpoints=checkpoints_in(tmp_path, warn=said.append))
    slot = population._start(0, adam)
    assert "is not what this version of the code trains" in said[1]
    assert slot.step == 0
    # A folder that cannot be made, as on a full disk: one line, and training goes on.
    (tmp_path / "file").touch()
    broken = Watched(program, 8, checkpoints=checkpoints_in(tmp_path / "file", 1e-9, said.append))
    pending, results = [tiny_trial(1)], {}
    broken.run(lambda: pending.pop() if pending else None, all_of(broken, results))
    assert "no checkpoint in" in said[2]
    assert same_bits(results[1][0].evaluations, train([tiny_trial(1)])[1].evaluations)


@pytest.mark.parametrize("at", ["before its first chunk", "before its first checkpoint"])
def test_another_plan_that_saves_nothing_costs_the_first_one_nothing(tmp_path, at):
    """The original command goes on at its old step, bit for bit."""
    trials = [tiny_trial(0, train_steps=400)]
    undisturbed = trained(trials)
    trained(trials, tmp_path, 2)
    place = checkpoints_in(tmp_path).of(trials[0])
    saved = steps_in(place)
    chunks = {"before its first chunk": 1, "before its first checkpoint": 2}[at]
    assert trained(trials, tmp_path, chunks, execution=Execution("loop"), save=False) == {}
    assert steps_in(checkpoint.aside(place)) == saved
    resumed, begun = {}, []
    population = Watched(tiny_program("every"), 8, checkpoints=checkpoints_in(tmp_path))
    pending = list(trials)
    population.run(
        lambda: pending.pop(0) if pending else None,
        all_of(population, resumed),
        lambda steps: begun.append(population.steps_under_way) or True,
    )
    assert begun[0] > saved[-1] > 0
    assert_same_trials(resumed, undisturbed)


def test_what_was_set_aside_goes_once_the_new_plan_has_saved_or_ended_the_trial(tmp_path):
    trial = tiny_trial(0, train_steps=400)
    kept = checkpoints_in(tmp_path, warn=lambda line: None)
    trained([trial], tmp_path, 2)
    old = steps_in(kept.of(trial))
    trained([trial], tmp_path, 1, execution=Execution("loop"))
    assert not checkpoint.aside(kept.of(trial)).exists()
    assert steps_in(kept.of(trial))[-1] < old[-1]
    trained([trial], tmp_path, 1, save=False)  # the loop's is aside now
    kept.end(trial, Status.INFEASIBLE)
    assert list(tmp_path.iterdir()) == []
    trained([trial], tmp_path, 2)
    trained([trial], tmp_path, 1, execution=Execution("loop"), save=False)
    kept.end(trial, Status.COMPLETE)  # a short one, that saved nothing
    assert list(tmp_path.iterdir()) == []


def test_a_study_resumed_otherwise_and_interrupted_goes_on_by_the_original_command(tmp_path):
    """SIGTERM saves; --execution loop, stopped by Ctrl-C, saves nothing; then the first command."""
    study = tiny_study(
        batch_sizes=(8,),
        step_budget=2_000_000,
        example_budget=16_000_000,
        trials=1,
        record_norms="off",
    )
    folder = tmp_path / "study"

    def ended_by(number, execution):
        def observe(progress):
            if progress.share > 0:
                os.kill(os.getpid(), number)

        with pytest.raises(KeyboardInterrupt):
            run_study(study, folder, execution=execution, observe=observe, warn=lambda line: None)

    ended_by(signal.SIGTERM, "auto")
    (place,) = (folder / CHECKPOINTS_FOLDER / "8").iterdir()
    saved = steps_in(place)
    ended_by(signal.SIGINT, "loop")
    assert steps_in(checkpoint.aside(place)) == saved
    ended_by(signal.SIGTERM, "auto")
    assert min(steps_in(place)) == saved[-1] < max(steps_in(place))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """Folder of the long study, never saved and never killed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_long_study(folder, checkpoint_minutes=NEVER)
    return folder


def test_kills_leave_every_bit(tmp_path, undisturbed):
    """Two; ``make soak`` makes a hundred."""
    assert killed_while_training(tmp_path, undisturbed, kills=2, seed=15) > 0


def test_told_to_end_it_saves_what_runs_and_goes_on_there(tmp_path, undisturbed):
    """SIGTERM, with no checkpoint due for an hour."""

    def told(progress):
        if (tmp_path / "ends" / "begun").exists():
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Preempted):
        run_long_study(tmp_path, checkpoint_minutes=60, observe=told)
    assert begun_in(tmp_path)
    run_long_study(tmp_path, checkpoint_minutes=NEVER)
    assert max(begun_in(tmp_path)) > 0
    assert_same_study(tmp_path, undisturbed)
