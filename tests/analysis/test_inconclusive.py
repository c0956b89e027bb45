"""Records that cannot answer: the report opens and says what cannot be concluded, and why."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import shutil

import numpy as np
import polars as pl
import pytest
from support.engine_factory import tiny_study
from support.records_factory import Truth, make_record, make_study

from experiments.analysis import critical_batch_size as critical
from experiments.analysis.findings import Inconclusive, PoorFit
from experiments.analysis.summary import summarise
from experiments.cli import main
from experiments.records.schema import STUDY_FILE
from experiments.records.seal import sealed_json
from experiments.report.answer import answer, hyperbola_words
from experiments.report.figures import drawn
from experiments.report.page import page
from experiments.report.terminal import print_summary
from experiments.runner.study import run_study


def text_of(record):
    """The words of the page, which must open."""
    summary = summarise(record)
    written = page(summary, drawn(summary))
    body = written[written.index("<main>") : written.index("</main>")]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())


def stopped(full):
    """Two searches whose trials stopped at the goal, but those of the first ``full``."""
    study = make_study((4, 64, 256), trials=4, seeds=(0, 1), stop="goal", full_searches=full,
                       sampler="random")  # fmt: skip
    record = make_record(study, Truth(diverges_above=1e9))
    ended = (pl.col("status") == "COMPLETE") & (pl.col("seed") >= full)
    status = pl.when(ended).then(pl.lit("STOPPED")).otherwise("status")
    return dataclasses.replace(record, trials=record.trials.with_columns(status=status))


SAYS = {
    "a goal nobody reached": (
        lambda: make_record(make_study((4, 64, 256), trials=3, goal=0.001)),
        ("No trial reached validation classification error < 0.001; the best",
         "exceed the length of the trials (censored)", "End of perfect scaling: not known"),
    ),
    "one batch size": (
        lambda: make_record(make_study((8,), trials=4)),
        ("1 batch size cannot show how steps scale: a critical batch size needs 3 or more that",),
    ),
    "two batch sizes": (
        lambda: make_record(make_study((8, 64), trials=4)),
        ("2 batch sizes cannot show how steps scale", "End of perfect scaling: not known"),
    ),
    "one trial": (
        lambda: make_record(make_study((4, 64, 256), trials=1, sampler="random")),
        ("A search of 1 trial bounds nothing: what another like it would need is not known",),
    ),
    "stopped trials and a budget": (
        lambda: stopped(0),
        ("none answers a budget: what a stopped trial would have reached later is not known",),
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", SAYS)
def test_the_report_opens_and_says_what_cannot_be_concluded_and_why(kind, capsys):
    make, words = SAYS[kind]
    record = make()
    shown = text_of(record)
    print_summary(record)
    printed = " ".join(capsys.readouterr().out.split())
    for said in words:
        assert said in shown
        assert said in printed or "censored" in said


def test_a_study_that_can_conclude_says_nothing_of_the_kind():
    full = summarise(stopped(1))
    assert not any(isinstance(f, (Inconclusive, PoorFit)) for f in full.verdict.findings)
    assert set(full.budgets["seed"]) == {0}
    assert full.budgets_across["coverage"].is_null().all()  # no interval: one of two answers


def test_a_study_in_the_midst_of_its_searches_is_read():
    """Ranges are there at some batch sizes only: one search has not begun at the smallest."""
    record = make_record(make_study((4, 64, 256), trials=4, seeds=(0, 1)))
    missing = (pl.col("batch_size") == 4) & (pl.col("seed") == 1)
    record = dataclasses.replace(
        record, trials=record.trials.remove(missing), evaluations=record.evaluations.remove(missing)
    )
    assert "the study is not finished" in text_of(record)


def test_forms_that_the_points_reject_are_said():
    """A curve with two bends, at 16 and 1,024; searches that differ by a twentieth."""
    record = make_record(make_study((4, 64, 256), trials=4, seeds=(0, 1)))
    summary = summarise(record)
    generator = np.random.default_rng(0)
    sizes = 2.0 ** np.arange(11)
    line = 50 * np.maximum((1024 / sizes) ** 0.7, (1024 / 16) ** 0.7 * 16 / sizes)
    searches = [
        (sizes, np.round(line * np.exp(0.05 * generator.standard_normal(11)))) for _ in range(6)
    ]
    borders = dataclasses.replace(
        summary.critical,
        searches=tuple(searches),
        limit=critical.perfect_scaling_limit(searches),
        convex=critical.convex_limit(searches),
    )
    (found,) = borders.misfit
    assert 2 * found.limit < found.convex < 35
    assert "do not lie on the curve" in found.sentence and "p = " in found.sentence
    shown = dataclasses.replace(summary, critical=borders)
    assert "by the fitted curve, which the points reject, or " in answer(shown)
    assert "The points reject the hyperbola (lack of fit, p = " in hyperbola_words(shown)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    study = tiny_study(batch_sizes=(64,), trials=1, step_budget=5, example_budget=64)
    return run_study(study, tmp_path_factory.mktemp("whole") / "tiny", execution="scan")


def refused(folder, capsys):
    """The one line that the command says; nothing is written."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(["report", str(folder)]) == 2
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    return said.err


def test_a_missing_part_is_named_and_nothing_is_drawn_from_the_rest(finished, tmp_path, capsys):
    for table in ("evaluations", "trials"):
        folder = shutil.copytree(finished, tmp_path / table)
        (part,) = (folder / "records").glob(f"{table}-*.parquet")
        part.unlink()
        assert "missing" in refused(folder, capsys)


def test_an_unknown_schema_is_named(finished, tmp_path, capsys):
    folder = shutil.copytree(finished, tmp_path / "future")
    held = json.loads((folder / STUDY_FILE).read_text())
    held.pop("checksum", None)
    (folder / STUDY_FILE).write_bytes(sealed_json({**held, "schema_version": 99}))
    assert re.search(r"schema version.* 99", refused(folder, capsys))
