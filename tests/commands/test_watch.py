"""``report --watch`` and ``status --watch`` follow a study, and rest where nothing happens."""

from __future__ import annotations

import dataclasses
import types

import pytest
from support.engine_factory import tiny_study

from experiments.cli import main
from experiments.commands import status
from experiments.commands.report import REFRESH_SECONDS, watch
from experiments.commands.status import WATCH_SECONDS, status_text
from experiments.records.store import Writer
from experiments.report import figures, search_page
from experiments.report.write import NOTE
from experiments.runner.search import search
from experiments.runner.study import run_study
from experiments.spec.errors import StudyError
from experiments.spec.space import Real

AGAIN = f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}">'


@pytest.fixture
def half(tmp_path, monkeypatch):
    """(study, folder) of two trials of which one is recorded: interrupted as it was to grow."""
    monkeypatch.setattr(figures, "FIGURES", figures.FIGURES[:1])
    study = tiny_study(batch_sizes=(32, 64), trials=1, step_budget=4, example_budget=128)
    folder = tmp_path / "s"
    run_study(dataclasses.replace(study, batch_sizes=(64,)), folder, execution="scan")

    def interrupted(writer, results):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Writer, "commit", interrupted)
        run_study(study, folder, execution="scan")
    assert not status_text(folder)[1]
    return study, folder


def test_the_page_is_written_where_trials_were_recorded_and_only_then(half, capsys):
    study, folder = half
    page, looks = folder / "report" / "index.html", []

    def wait(seconds):
        looks.append((seconds, page.stat().st_mtime_ns, AGAIN in page.read_text(encoding="utf-8")))
        if len(looks) == 2:  # nothing happened at the first look
            run_study(study, folder, execution="scan")

    watch(folder, {}, wait)
    (first, second), said = looks, capsys.readouterr().out
    assert first == second and first[0] == WATCH_SECONDS and first[2]
    assert said.count("report: ") == 1 and "1 of 2 trials" in said


def test_a_search_is_followed_too_and_shows_a_note(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(search_page, "write_figure", lambda figure, target: None)
    folder, calls, looks = tmp_path / "s", [], []

    def objective(hyperparameters, budget, report):
        calls.append(hyperparameters)
        if len(calls) == 2:
            raise RuntimeError("no")
        return hyperparameters["rate"]

    def run():
        search({"rate": Real(0.1, 1.0)}, objective=objective, trials=2, folder=folder, show=False)

    def wait(seconds):
        looks.append(page.read_text(encoding="utf-8"))
        run()

    with pytest.raises(StudyError):
        run()
    page, note = folder / "report" / "index.html", tmp_path / "mine.md"
    note.write_text("<b>mine</b>")
    command = ["report", str(folder), "--note", str(note)]
    assert main([*command, "--price-per-device-hour", "2"]) == 2
    assert "has no place in" in capsys.readouterr().err and not (folder / NOTE).exists()
    watch(folder, {}, wait)
    assert len(looks) == 1 and AGAIN in looks[0]
    assert main(command) == 0
    assert "&lt;b&gt;mine" in page.read_text() and AGAIN not in page.read_text()


def test_a_note_is_not_kept_beside_what_cannot_be_shown(half, tmp_path, capsys):
    _, folder = half
    note = tmp_path / "mine.md"
    note.write_text("mine")
    other = run_study(tiny_study(trials=1, step_budget=4, example_budget=32), tmp_path / "other")
    command = ["report", str(folder), "--note", str(note), "--ruled", str(other)]
    assert main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (folder / NOTE).exists()


def test_the_commands_follow_a_study_to_its_end_and_leave_a_page_that_stays(
    half, monkeypatch, capsys
):
    study, folder = half
    looks = []

    def sleep(seconds):
        looks.append((seconds, capsys.readouterr().out))
        run_study(study, folder, execution="scan")

    monkeypatch.setattr(status, "time", types.SimpleNamespace(sleep=sleep))
    assert main(["status", str(folder), "--watch"]) == 0
    ((seconds, first),) = looks
    assert seconds == WATCH_SECONDS and "tiny: 1 of 2 trials (50%)" in first
    assert "tiny: 2 of 2 trials (100%), done" in capsys.readouterr().out
    assert main(["report", str(folder), "--watch"]) == 0
    assert AGAIN not in (folder / "report" / "index.html").read_text(encoding="utf-8")
    assert main(["report", str(folder / "records"), "--watch"]) == 2
    assert "--watch follows a study; there is none in" in capsys.readouterr().err
