"""start: a first configuration, each of its words by measurement, and a study file that runs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from experiments.analysis import start_rules
from experiments.cli import main
from experiments.spec.loading import load_file

UNTRAINED = 0.1
"""Relative, of an untrained net's loss: its outputs are small and not zero (as `check` allows)."""


def test_a_constant_predictor_by_the_shares_of_the_targets():
    targets = np.array([[0, 0, 1], [2, -1, 0]], np.int32)
    assert start_rules.constant_predictor(targets, "classification_error") == pytest.approx(0.4)
    entropy = -(0.6 * np.log(0.6) + 2 * 0.2 * np.log(0.2))
    assert start_rules.constant_predictor(targets, "cross_entropy") == pytest.approx(entropy)
    assert start_rules.constant_predictor(targets.astype(float), "cross_entropy") is None


def test_each_word_is_judged_by_its_number():
    rates = (1e-3, 1e-2, 1e-1)
    judged = [
        start_rules.better_than_chance(best, 0.9, "classification_error", rates, rate).result
        for best, rate in ((0.1, 1e-2), (0.1, 1e-1), (0.6, 1e-2), (0.9, 1e-2))
    ]
    assert judged == ["pass", "warn", "warn", "fail"]
    assert [start_rules.fast(s, 100, 50, 8).result for s in (0.01, 7.0)] == ["pass", "warn"]
    memory = [start_rules.little_resource(n, 100).result for n in (10, 60)]
    assert memory == ["pass", "warn"]


def test_the_command_finds_a_configuration_and_writes_a_study_of_it(tmp_path, capsys):
    folder = tmp_path / "s"
    words = ["start", "digits_fc", "--steps", "60", "--rates", "1e-3", "1e-2", "--out", str(folder)]
    code = main(words)
    said = capsys.readouterr().out
    verdict = json.loads((folder / "verdict.json").read_text())["values"]
    by_name = {row["name"]: row for row in verdict["checks"]}
    assert code == 0 and said.startswith("cost: at most 5 trials, 220 steps")
    assert by_name["much better than chance"]["values"]["best"] == verdict["best"] < 0.4
    assert 0 < by_name["little resource"]["values"]["share"] < 0.5
    assert by_name["simple"]["values"]["parameters"] == 64 * 64 + 64 * 64 + 64 * 10 + 138
    # Ten classes: classes and colours are relative to this loss, not to one of 1.
    assert verdict["first_loss"] == pytest.approx(np.log(10), rel=UNTRAINED)
    study = load_file(folder / "start.py").STUDY
    low, high = (getattr(study.space["learning_rate"], end) for end in ("low", "high"))
    assert low < verdict["learning_rate"] < high and study.schedule == "constant"
    assert (study.resolved.batch_sizes, study.sampler) == ((64,), "halton")
    for rates in (["1", "0.1"], ["1e-3", "inf"]):
        assert main(["start", "digits_fc", "--rates", *rates, "--out", str(tmp_path / "n")]) == 2
    assert not (tmp_path / "n").exists()
