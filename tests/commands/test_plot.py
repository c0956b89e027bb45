"""plot-schedule: what is drawn is what the engine would use; every format; errors in one line."""

from __future__ import annotations

import numpy as np
import pytest

from experiments.cli import main
from experiments.report.schedules import MOST_POINTS, schedule_table
from schedules.batch_size import cuts_of, seesaw, updates

FLOAT32 = 1e-6
"""The schedules compute in float32."""


def test_the_rate_is_warmup_then_the_shape_times_the_peak():
    table = schedule_table(
        ["linear"], 110, 8,
        {"warmup_steps": "10", "learning_rate": "0.4", "end_learning_rate_factor": "0"},
    )  # fmt: skip
    step = np.arange(110)
    expected = 0.4 * np.where(step < 10, step / 10, 1 - (step - 10) / 100)
    np.testing.assert_allclose(table["learning_rate"], expected, rtol=FLOAT32, atol=FLOAT32)
    assert table["examples"].to_list() == (8 * step).tolist()
    assert table["momentum"].unique().to_list() == pytest.approx([0.9])
    assert table["batch_size"].unique().to_list() == [8]


def test_a_momentum_schedule_is_drawn_beside_the_rate():
    table = schedule_table(["cosine", "annealed"], 100, 1, {"momentum": "0.99"})
    assert table["momentum"][0] == pytest.approx(0.5)
    assert table["momentum"][-1] == pytest.approx(0.99)
    assert table["learning_rate"][-1] < 0.02


def test_a_growing_batch_takes_the_place_of_the_rates_decay():
    """Smith's invariant, rate / B as under the decayed rate, at the same examples."""
    grown = schedule_table(["smith"], 800, 16, {})
    decayed = schedule_table(["step_decay"], 800, 16, {})
    assert grown["learning_rate"].to_list() == [1.0] * len(grown)
    assert grown["batch_size"].unique().sort().to_list() == [16, 160, 1600, 16000]
    at = np.searchsorted(decayed["examples"], grown["examples"])
    np.testing.assert_allclose(
        grown["learning_rate"] / grown["batch_size"],
        decayed["learning_rate"].to_numpy()[at] / 16,
        rtol=FLOAT32,
    )


def test_a_growing_batch_makes_the_updates_that_its_schedule_counts():
    table = schedule_table(["cosine", "seesaw"], 1000, 64, {"max_batch_size": "512"})
    cosine = schedule_table(["cosine"], 1000, 64, {})["learning_rate"].to_numpy()
    cuts = cuts_of(lambda progress: np.interp(progress * 1000, range(1000), cosine), 64000, 2.0)
    planned = updates(seesaw(64, cuts, 2.0, 512), 64000)
    assert abs(len(table) - planned) <= 2  # a cut lies within a step of the interpolated one
    assert table["batch_size"].max() == 512
    consumed = table["examples"].to_numpy()
    assert (np.diff(consumed) == table["batch_size"].to_numpy()[:-1]).all()
    assert consumed[-1] < 64000 <= consumed[-1] + table["batch_size"][-1]


def test_long_trials_are_drawn_at_few_points():
    table = schedule_table(["cosine"], 1_000_000, 256, {})
    assert len(table) == MOST_POINTS and table["step"][-1] == 999_999


@pytest.mark.parametrize(
    ("ending", "start"),
    [("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF"), ("html", b"<!doctype html>")],
)
def test_every_format_is_written(tmp_path, capsys, ending, start):
    path = tmp_path / f"cosine.{ending}"
    assert main(["plot-schedule", "cosine", "--steps", "50", "--out", str(path)]) == 0
    assert path.read_bytes().startswith(start)
    assert capsys.readouterr().out == f"written: {path}\n"


def test_the_page_needs_no_network(tmp_path):
    path = tmp_path / "page.html"
    main(["plot-schedule", "linear", "smith", "--set", "factor=4", "--out", str(path)])
    text = path.read_text()
    assert "default-src 'none'" in text and "<script src" not in text and "<link" not in text


def test_without_out_it_lies_where_the_command_ran(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["plot-schedule", "cosine", "smith", "--steps", "20"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cosine-smith.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["cosin"], "schedule 'cosin' is unknown; did you mean 'cosine'?"),
        (["cosine", "linear"], "one rate schedule can be drawn at a time, got cosine, linear"),
        (["cosine", "--set", "power=2"], "setting 'power' is unknown"),
        (["polynomial", "--set", "power=99"], "power must lie in [0.001, 10], got 99.0"),
        (["polynomial", "--set", "power=two"], "setting power must be a number, got 'two'"),
        (["cosine", "--set", "warmup_steps"], "--set takes KEY=VALUE, got 'warmup_steps'"),
        (["cosine", "smith", "--set", "factor=1"], "factor must exceed 1, got 1.0"),
        (["cosine", "--out", "x.gif"], "out must end in .png, .svg, .pdf, .html, got 'x.gif'"),
    ],
)
def test_errors_are_one_line_and_write_nothing(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(["plot-schedule", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())
