"""A search as it is shown: on its page, by status, and while it runs."""

from __future__ import annotations

import io
import math
import re
import sys

from support.searching import run

from experiments.cli import main
from experiments.spec.space import Real


def test_the_page_and_the_status_say_what_was_found(tmp_path, capsys):
    found = run(
        tmp_path, {"<rate>": Real(1e-4, 1.0, "log")}, lambda h, b, r: h["<rate>"], trials=9,
        budget=9, pruner="hyperband", name="plain", question="<b>Which?</b>",
    )  # fmt: skip
    assert main(["status", str(found.folder)]) == 0
    said = capsys.readouterr().out
    assert "plain: 9 of 9 trials (100%), done" in said
    assert f"best: {found.value:.4g} (trial {found.trial}, 9 units)" in said
    assert main(["report", str(found.folder)]) == 0
    page = (found.folder / "report" / "index.html").read_text()
    assert "&lt;b&gt;Which?&lt;/b&gt;" in page and "<b>Which" not in page
    (first,) = re.findall(r"<tr><th[^>]*>trial</th>.*?</tr>", page)
    heads = re.findall(r"<th[^>]*>(.*?)</th>", first)
    assert heads[:2] == ["trial", "value"] and heads[-1] == "&lt;rate&gt;"
    assert "9 quasi-random" in page and "9 @ 1, 3 @ 3, 1 @ 9" in page
    assert sorted(path.name for path in (found.folder / "report" / "figures").glob("*.png")) == [
        "curves.png", "hyperparameters.png", "progress.png",
    ]  # fmt: skip
    assert main(["steps-to-result", str(found.folder)]) == 2
    assert "holds a search" in capsys.readouterr().err


def test_every_trial_is_shown_beside_the_best_so_far(tmp_path, capsys):
    found = run(tmp_path, trials=17, budget=9, pruner="hyperband", show=True)
    lines = capsys.readouterr().out.splitlines()
    assert "  0:    9 trials: 9 @ 1, 3 @ 3, 1 @ 9" in lines
    shown = [line.split() for line in lines if line[:6].strip().isdigit() and ":" not in line[:8]]
    assert len(shown) == 17
    best = math.inf
    for trial, _, value, so_far, *_ in shown:
        known = found.table.row(int(trial), named=True)["value"]
        assert value == f"{known:.4g}"
        best = min(best, known)
        assert so_far == f"{best:.4g}"
    assert lines[-1].startswith(f"best: {found.value:.4g} (trial {found.trial})")


def test_a_terminal_shows_the_newest_trials_beside_the_best_so_far(tmp_path, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm")
    found = run(tmp_path, trials=3, show=True)
    table = terminal.getvalue().rsplit("3 of 3 trials have ended", 1)[1]
    shown = [line.split() for line in re.sub(r"\x1b\[[^m]*m", "", table).splitlines()]
    for row in found.table.iter_rows(named=True):
        trial = next(cells for cells in shown if cells[:1] == [str(row["trial"])])
        assert trial[2:4] == [f"{row[name]:.4g}" for name in ("value", "best")]
    newest, best = (values[-1] for values in (found.table["rate"], [found.best["rate"]]))
    assert ["rate", f"{newest:.4g}", f"{best:.4g}"] in shown
