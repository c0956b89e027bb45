"""Paths on surfaces: they obey their rules, are recorded, and the page's slider walks them."""

from __future__ import annotations

import dataclasses
import os
import signal

import numpy as np
import polars as pl
import pytest

from experiments import studies
from experiments.cli import main
from experiments.records.store import RecordError
from experiments.report.paths import read_paths, write_paths_report
from experiments.runner.paths import run_paths, walked
from experiments.spec.paths import Paths, Surface
from experiments.studies import optimizer_paths
from experiments.studies.optimizer_paths import STUDY

FLOAT32 = 1e-4
"""Twenty steps in float32 against float64."""
RAVINE = STUDY.surfaces[0]
SMALL = dataclasses.replace(
    STUDY, name="small", surfaces=(RAVINE,), optimizers=("sgd", "adam"), steps=20, rates=(0.1, 0.3)
)


@pytest.fixture(scope="module")
def walked_folder(tmp_path_factory):
    folder = run_paths(SMALL, tmp_path_factory.mktemp("paths") / "small")
    write_paths_report(folder)
    return folder


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_path_is_the_rule_applied_to_the_exact_gradient(momentum):
    paths = dataclasses.replace(
        SMALL, optimizers=("momentum",), rates=(0.1,), fixed={"momentum": {"momentum": momentum}}
    )
    found = walked(paths, RAVINE, "momentum")
    point, velocity = np.array(RAVINE.start), np.zeros(2)
    for x, y, height in found.select("x", "y", "value").iter_rows():
        np.testing.assert_allclose([x, y], point, rtol=FLOAT32, atol=FLOAT32)
        assert height == pytest.approx(0.05 * x**2 + 2.5 * y**2, rel=FLOAT32)
        velocity = momentum * velocity + np.array([0.1, 5.0]) * point
        point = point - 0.1 * velocity


def test_the_rate_kept_is_the_one_whose_path_lies_lowest():
    each = [
        walked(dataclasses.replace(SMALL, rates=(rate,)), RAVINE, "sgd")["value"].mean()
        for rate in (0.01, 0.1, 0.3, 5.0)  # the last leaves the numbers
    ]
    best = walked(dataclasses.replace(SMALL, rates=(0.01, 0.1, 0.3, 5.0)), RAVINE, "sgd")
    assert best["learning_rate"][0] == pytest.approx((0.01, 0.1, 0.3, 5.0)[int(np.nanargmin(each))])
    assert best["value"].mean() == pytest.approx(min(each), rel=FLOAT32)


def test_minima_and_starts_of_the_surfaces_are_where_they_are_said_to_be():
    functions = {s.name: getattr(optimizer_paths, s.function.split(":")[1]) for s in STUDY.surfaces}
    for surface in STUDY.surfaces:
        grid = np.meshgrid(*(np.linspace(lo, hi, 601) for lo, hi in
                             zip(surface.low, surface.high, strict=True)))  # fmt: skip
        heights = functions[surface.name](*grid) - surface.minimum
        assert -1e-9 < heights.min() < 1e-2
        for low, at, high in zip(surface.low, surface.start, surface.high, strict=True):
            assert low < at < high
    assert functions["Rosenbrock"](1, 1) == 0 and functions["saddle"](0, -1) == -0.5


def test_the_record_holds_every_step_and_the_surfaces(walked_folder):
    question, paths, surfaces = read_paths(walked_folder)
    assert question["name"] == "small" and question["steps"] == 20
    steps = paths.group_by("optimizer", maintain_order=True).agg("step")
    assert steps.rows() == [("sgd", list(range(21))), ("adam", list(range(21)))]
    cell = surfaces.row(7, named=True)
    x, y = (cell["x"] + cell["x2"]) / 2, (cell["y"] + cell["y2"]) / 2
    assert cell["value"] == pytest.approx(0.05 * x**2 + 2.5 * y**2)


def test_the_slider_walks_the_paths_without_a_network(walked_folder, browser):
    page = walked_folder / "report" / "index.html"
    tab = browser.new_page()
    requests, errors = [], []
    tab.on("request", lambda request: requests.append(request.url))
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.goto(page.as_uri())
    tab.wait_for_selector("body[data-drawn]", timeout=60_000)
    slider = tab.locator(".chart input[type=range]")
    assert slider.count() == 1 and slider.input_value() == "20"
    lines = tab.locator(".chart .mark-line.role-mark path")
    whole = [lines.nth(i).get_attribute("d") for i in range(lines.count())]
    slider.fill("3")
    tab.wait_for_timeout(300)
    short = [lines.nth(i).get_attribute("d") for i in range(lines.count())]
    tab.close()
    walks = [(a.count("L"), b.count("L")) for a, b in zip(whole, short, strict=True) if a != b]
    assert walks == [(20, 3), (20, 3)]  # the maps' two paths; the curves of heights stay
    assert requests == [page.as_uri()] and errors == []


def test_the_command_runs_and_rebuilds_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(optimizer_paths, "STUDY", SMALL)
    assert main(["run", "optimizer_paths"]) == 0
    assert capsys.readouterr().out == "report: runs/small/report/index.html\n"
    (tmp_path / "runs/small/report/index.html").unlink()
    assert main(["report", "runs/small"]) == 0
    assert (tmp_path / "runs/small/report/index.html").stat().st_size > 100_000
    rates = pl.read_csv(tmp_path / "runs/small/report/data/paths.csv")["learning_rate"]
    assert set(rates) <= {0.1, 0.3}
    capsys.readouterr()
    assert main(["run", "optimizer_paths", "--no-resume"]) == 2
    assert "already holds the paths 'small'" in capsys.readouterr().err
    assert main(["run", "optimizer_paths", "--batch-sizes", "4"]) == 2
    assert "--batch-sizes has no place in small" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    ["--execution loop", "--checkpoint-minutes 1", "--keep-going", "--stream", "--data-dir here",
     "--allow-changed-code"],
)  # fmt: skip
def test_an_option_of_training_has_no_place(tmp_path, monkeypatch, capsys, option):
    monkeypatch.chdir(tmp_path)
    assert main(["run", "optimizer_paths", "--smoke", *option.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{option.split()[0]} has no place in optimizer_paths-smoke" in line
    assert list(tmp_path.iterdir()) == []


def test_no_resume_refuses_a_folder_that_holds_paths(walked_folder, monkeypatch, capsys):
    monkeypatch.setattr(optimizer_paths, "STUDY", SMALL)
    before = {path: path.read_bytes() for path in walked_folder.rglob("*") if path.is_file()}
    assert main(["run", "optimizer_paths", "--no-resume", "--out", str(walked_folder)]) == 2
    assert "already holds the paths 'small'" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_paths_interrupted_leave_the_old_record(walked_folder, monkeypatch, number):
    before = read_paths(walked_folder)
    monkeypatch.setattr(
        "experiments.runner.paths.walked",
        lambda *arguments: os.kill(os.getpid(), number) or walked(*arguments),
    )
    with pytest.raises(KeyboardInterrupt):
        run_paths(SMALL, walked_folder)
    for one, other in zip(before, read_paths(walked_folder), strict=True):
        assert one.equals(other) if isinstance(one, pl.DataFrame) else one == other


def test_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(RecordError, match="holds the record of a study"):
        run_paths(SMALL, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["study.json"]
    with pytest.raises(RecordError, match="cannot be read"):
        read_paths(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizers": ("adan",)}, "optimizer 'adan' is unknown"),
        ({"fixed": {"adam": {"beta": 0.5}}}, "hyperparameter of adam 'beta' is unknown"),
        ({"fixed": {"adam": {"beta1": 1.0}}}, r"beta1 must lie in \[0, 1\), got 1.0"),
        ({"rates": (0.0,)}, r"learning_rate must lie in \(0, "),
        ({"steps": 0}, "steps must be at least 1, got 0"),
        ({"rates": ()}, "must each hold at least one"),
    ],
)
def test_what_cannot_be_walked_is_refused_at_construction(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(SMALL, **changes)


def test_the_study_and_its_smoke_variant():
    study = studies.get("optimizer_paths")
    assert isinstance(study, Paths) and len(study.optimizers) >= 8
    assert [surface.name for surface in study.surfaces] == ["ravine", "saddle", "Rosenbrock"]
    assert all(isinstance(surface, Surface) for surface in study.surfaces)
    smoke = studies.get("optimizer_paths", smoke=True)
    assert smoke.name == "optimizer_paths-smoke" and smoke.steps < study.steps
