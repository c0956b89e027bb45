"""Interruptions at chosen places: what finished is recorded, whatever ends the study, and where."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import signal
import threading

import jax
import pytest
from support.comparing import assert_same_record
from support.engine_factory import TINY, tiny_study

from experiments.records.store import RecordError, Writer, read
from experiments.runner import coordinator
from experiments.runner.comparison import run_comparison
from experiments.runner.study import run_study
from experiments.runtime.compilation import switched
from experiments.runtime.stopping import EndedAtOnce, Preempted, Stop, deferred, listening
from experiments.search.search import Search
from experiments.spec.comparison import Comparison
from experiments.spec.errors import StudyError
from experiments.training.chunks import ChunkSource
from experiments.training.program import Program


def small_study():
    """Six trials of one batch size, norms of every step among their parts."""
    return tiny_study(batch_sizes=(8,), trials=6, step_budget=30, record_norms="every")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The small study's record, made without an interruption."""
    return run_study(small_study(), tmp_path_factory.mktemp("whole") / "study", execution="scan")


@pytest.fixture
def finished(monkeypatch):
    """The keys of the trials whose training has ended, filled while studies run."""
    keys, end = set(), Search.end
    monkeypatch.setattr(coordinator, "COMMIT_SECONDS", 0.0)
    monkeypatch.setattr(
        Search, "end", lambda self, result: (keys.add(result.trial.key), end(self, result))[1]
    )
    return keys


def recorded(folder):
    """The keys of the recorded trials."""
    return set(read(folder).trials.select("batch_size", "seed", "trial").iter_rows())


def raise_here():
    """What a handler of the caller's own does."""
    raise KeyboardInterrupt


WAYS = {
    "Ctrl-C": (lambda: os.kill(os.getpid(), signal.SIGINT), KeyboardInterrupt),
    "SIGTERM": (lambda: os.kill(os.getpid(), signal.SIGTERM), Preempted),
    "raised from outside": (raise_here, KeyboardInterrupt),
}


WRITES = ("study.json", "its plan", "evaluations", "norms", "trials")
"""What is written, in this order, where all trials are recorded by one commit."""
PLACES = [
    *[("raised from outside", moment, what) for moment in ("before", "after") for what in WRITES],
    *[(way, "before", "evaluations") for way in ("Ctrl-C", "SIGTERM")],
    *[(way, "after", what) for way in ("Ctrl-C", "SIGTERM") for what in ("its plan", "trials")],
]


@pytest.mark.parametrize(("way", "moment", "what"), PLACES)
def test_interrupted_at_any_write_a_study_loses_nothing_finished(
    tmp_path, monkeypatch, undisturbed, finished, way, moment, what
):
    folder, (interrupt, raised), seen = tmp_path / "study", WAYS[way], [-1]
    replace = os.replace

    def hooked(source, target, **options):
        mine = str(target).startswith(str(folder))
        seen[0] += mine
        here = mine and seen[0] == WRITES.index(what)
        if here and moment == "before":
            interrupt()
        replace(source, target, **options)
        if here and moment == "after":
            interrupt()

    monkeypatch.setattr(os, "replace", hooked)
    with pytest.raises(raised):
        run_study(small_study(), folder, execution="scan", workers=1)
    assert not finished or recorded(folder) == finished
    monkeypatch.setattr(os, "replace", replace)
    run_study(small_study(), folder)
    assert_same_record(folder, undisturbed)


def test_interrupted_between_a_commit_and_its_bookkeeping_it_is_recorded_once(
    tmp_path, monkeypatch, undisturbed, finished
):
    folder, commit = tmp_path / "study", Writer.commit

    def committed_then_interrupted(self, results):
        commit(self, results)
        if results:
            monkeypatch.setattr(Writer, "commit", commit)
            raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "commit", committed_then_interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_study(small_study(), folder, execution="scan")
    assert recorded(folder) == finished
    assert read(folder).trials.height == len(finished)
    run_study(small_study(), folder)
    assert_same_record(folder, undisturbed)


@pytest.mark.parametrize("when", ["under way", "closing", "interrupted"])
def test_a_record_damaged_under_a_running_study_is_no_bad_input(tmp_path, monkeypatch, when):
    """The command line answers a StudyError by exit code 1, a RecordError by 2."""
    seconds = 0.0 if when == "under way" else float("inf")
    monkeypatch.setattr(coordinator, "COMMIT_SECONDS", seconds)

    def commit(self, results):
        if results:
            raise RecordError("a part is damaged")

    def observe(progress):
        if when == "interrupted" and progress.complete:
            raise KeyboardInterrupt

    monkeypatch.setattr(Writer, "commit", commit)
    with pytest.raises(StudyError, match="a part is damaged"):
        run_study(small_study(), tmp_path / "study", execution="scan", observe=observe)


def test_an_observer_that_raises_ends_the_study_and_loses_nothing(tmp_path, finished):
    def observe(progress):
        if finished:
            raise RuntimeError("the observer's")

    with pytest.raises(RuntimeError, match="the observer's"):
        run_study(small_study(), tmp_path / "study", execution="scan", observe=observe)
    assert recorded(tmp_path / "study") == finished


def test_between_and_inside_the_studies_of_a_comparison_nothing_is_lost(tmp_path, finished):
    one, other = small_study(), dataclasses.replace(small_study(), optimizer="momentum")
    folder = tmp_path / "two"

    def interrupt_in_b(progress):
        if (folder / "b" / "study.json").exists() and finished:
            os.kill(os.getpid(), signal.SIGTERM)

    def shown(study):
        finished.clear()
        return contextlib.nullcontext(interrupt_in_b)

    comparison = Comparison("two", "Which?", {"a": one, "b": other})
    run = functools.partial(run_comparison, comparison, folder, execution="scan")
    with pytest.raises(Preempted):
        run(shown=shown)
    assert len(recorded(folder / "a")) == 6
    assert recorded(folder / "b") == finished
    run()
    assert len(recorded(folder / "b")) == 6


def exhausted(*arguments, **options):
    raise MemoryError


def unreadable(*arguments, **options):
    raise ValueError("the first example\ncannot be read")


@pytest.mark.parametrize("way", [exhausted, unreadable, raise_here])
@pytest.mark.parametrize("place", [(ChunkSource, "_enter"), (Program, "at"), (Search, "start")])
def test_a_worker_that_dies_fails_the_study(tmp_path, monkeypatch, place, way):
    folder = run_study(small_study(), tmp_path / "study", execution="scan")
    monkeypatch.setattr(*place, lambda *arguments, **options: way())
    grown = tiny_study(batch_sizes=(8, 64), trials=6, step_budget=30, record_norms="every")
    with pytest.raises((StudyError, MemoryError, ValueError)) as found:
        run_study(grown, folder, execution="scan", workers=2)
    if place[0] is not Search:
        assert isinstance(found.value, StudyError)
        assert "batch size 64 failed" in str(found.value)
        assert "\n" not in str(found.value)
    assert len(recorded(folder)) == 6


def test_a_model_that_ends_the_interpreter_fails_the_study(tmp_path):
    def exits(**options):
        raise SystemExit(3)

    study = tiny_study(workload=dataclasses.replace(TINY, model=exits), batch_sizes=(8,))
    with pytest.raises(StudyError, match="SystemExit: 3"):
        run_study(study, tmp_path / "study", execution="scan")


# The flag itself.


def test_a_signal_is_a_flag_while_deferred_and_raises_outside():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with listening():
        with deferred() as stop:
            os.kill(os.getpid(), signal.SIGINT)
            assert stop.asked is KeyboardInterrupt  # still here
            with pytest.raises(KeyboardInterrupt):
                stop.check()
        with pytest.raises(Preempted):
            os.kill(os.getpid(), signal.SIGTERM)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_a_second_ctrl_c_ends_at_once_and_a_second_sigterm_does_not():
    with deferred() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.asked is Preempted
    with pytest.raises(EndedAtOnce), deferred():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)


def test_a_handler_of_the_callers_own_stays():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *arguments: heard.append("mine"))
    try:
        with deferred() as stop:
            os.kill(os.getpid(), signal.SIGTERM)
        assert heard == ["mine"] and stop.asked is None
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_sets_no_handler():
    found = []

    def enter():
        with deferred() as stop:
            found.append(signal.getsignal(signal.SIGINT))
            assert isinstance(stop, Stop)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.default_int_handler]


def test_every_switch_of_jax_is_put_back(monkeypatch, tmp_path):
    names = (
        "jax_enable_x64",
        "jax_compilation_cache_dir",
        "jax_persistent_cache_min_compile_time_secs",
    )
    kept = jax.config.jax_compilation_cache_dir
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        before = [getattr(jax.config, name) for name in names]
        with pytest.raises(RuntimeError), switched(float64=True):
            assert jax.config.jax_enable_x64
            assert jax.config.jax_compilation_cache_dir == str(tmp_path / "batchscale" / "xla")
            raise RuntimeError
        assert [getattr(jax.config, name) for name in names] == before
    finally:
        jax.config.update("jax_compilation_cache_dir", kept)
