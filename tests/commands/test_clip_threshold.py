"""clip-threshold: the percentile of what was logged; --fix takes it into a study."""

from __future__ import annotations

import dataclasses

import numpy as np
import polars as pl
import pytest
from support.engine_factory import tiny_study
from support.records_factory import handmade

from experiments.analysis.clip_threshold import clip_thresholds, threshold_from_norms
from experiments.cli import build_parser, main
from experiments.commands.chosen import chosen_study
from experiments.records.store import read
from experiments.runner.study import run_study

DONE = "COMPLETE"


def test_a_threshold_is_the_percentile_of_what_is_finite():
    assert threshold_from_norms([*range(101), np.nan, np.inf], 90.0) == 90.0
    with pytest.raises(ValueError, match=r"percentile must lie in \[0, 100\], got 101"):
        threshold_from_norms([1.0], 101)
    with pytest.raises(ValueError, match="at least one finite"):
        threshold_from_norms([np.nan], 90.0)


def test_it_is_taken_from_the_best_trial_of_each_search():
    """From the norms of every step where there are any, else from those at evaluations."""
    curves = {8: [(DONE, {10: 0.5}), (DONE, {10: 0.05})], 16: [(DONE, {10: 0.05, 20: 0.01})]}
    record = handmade(curves, trials=1)
    with pytest.raises(ValueError, match="holds no gradient norms: record_norms .* was off"):
        clip_thresholds(record)
    record = handmade(curves | {8: curves[8][::-1]}, trials=1)
    norm = 100.0 * pl.col("trial") + pl.col("step")
    sparse = dataclasses.replace(
        record, evaluations=record.evaluations.with_columns(gradient_norm=norm)
    )
    table = clip_thresholds(sparse, 50.0)
    assert table.select("batch_size", "trial", "norms", "threshold").rows() == [
        (8, 0, 1, 10.0), (16, 0, 2, 15.0),
    ]  # fmt: skip
    steps = pl.DataFrame({"step": np.arange(1, 102)})
    keys = record.trials.select("batch_size", "seed", "trial")
    norms = keys.join(steps, how="cross").with_columns(gradient_norm=norm)
    every = clip_thresholds(dataclasses.replace(sparse, norms=norms))
    assert every["threshold"].to_list() == [91.0, 91.0] and every["norms"].to_list() == [101, 101]
    assert every["largest"].to_list() == [101.0, 101.0]


def test_the_command_prints_what_a_study_then_holds(tmp_path, capsys):
    study = tiny_study(batch_sizes=(64,), trials=1, step_budget=20, record_norms="every")
    folder = run_study(study, tmp_path / "logged", workers=1)
    norms = read(folder).norms["gradient_norm"]
    assert main(["clip-threshold", str(folder), "--percentile", "75"]) == 0
    row = capsys.readouterr().out.splitlines()[1].split()
    assert row == ["64", "0", "0", "20", *(f"{v:.4g}" for v in (
        norms.median(), np.percentile(norms, 75), norms.max()))]  # fmt: skip
    assert main(["clip-threshold", str(folder), "--percentile", "101"]) == 2
    assert "percentile must lie in [0, 100], got 101.0" in capsys.readouterr().err


def asked(*options):
    return chosen_study(build_parser().parse_args(["run", *options])).resolved


def test_run_holds_what_is_fixed_and_searches_the_rest():
    plain = asked("quickstart")
    held = asked(
        "quickstart", "--clipping", "global_norm", "--fix", "clip_threshold=2.5", "warmup_steps=5%"
    )
    assert held.space == plain.space
    assert held.fixed == {"clip_threshold": 2.5, "warmup_steps": "5%"}
    assert held.name == "quickstart-global_norm-clip_threshold=2.5-warmup_steps=5%"
    fewer = asked("quickstart", "--fix", "momentum=0.9")
    assert set(fewer.space) == set(plain.space) - {"momentum"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--fix", "momentun=0.9"), "hyperparameter 'momentun' is unknown; did you mean"),
        (("--fix", "momentum=high"), "momentum must be a number, got 'high'"),
        (("--fix", "momentum=1"), r"momentum must lie in \[0, 1\), got 1.0"),
        (("--fix", "momentum"), "--fix takes KEY=VALUE, got 'momentum'"),
    ],
)
def test_what_cannot_be_fixed_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        asked("quickstart", *options)
