"""docs/ensembles.md: its gains, and that they are those of the recorded numbers."""

from __future__ import annotations

import json

import pytest

from benchmarks import ensembles


def test_the_page_is_that_of_the_recorded_numbers():
    entries = json.loads(ensembles.FILE.read_text())["studies"]
    assert ensembles.PAGE.read_text(encoding="utf-8") == ensembles.page(entries)
    assert set(entries) == {"ensembles_digits", "ensembles_fashion"}


def test_gains_of_ensembles_are_over_the_single_trial_of_the_same_search():
    rows = [
        {"seed": seed, "kind": kind, "accuracy": 0.90 + 0.01 * seed, "nll": 0.3, "brier": 0.1,
         "ece": 0.02, "disagreement": None if kind == "average" else 0.1, "members": 2,
         "trained_examples": 200, "seconds": [1.0, 0.1],
         "single": {"accuracy": 0.9, "nll": 0.4, "brier": 0.1, "ece": 0.01}}
        for seed in range(3) for kind in ensembles.EXPLAINED
    ]  # fmt: skip
    entry = {"study": "s", "dataset": "d", "examples": 100, "size": 2, "trials": 4, "searches": 3,
             "trial_examples": 100, "rows": rows}  # fmt: skip
    gained = ensembles.gains(entry, "top", "accuracy")
    assert gained == pytest.approx([0, 0.01, 0.02])
    assert ensembles.interval(gained) == pytest.approx((0.01, 0, 0.02))
    shown = ensembles.page({"s": entry})
    assert "cover with 75.0%" in shown and "+1.00 (+0.00 to +2.00)" in shown
    told = "- top: more accurate in 2, a smaller NLL in 3, better calibrated in 0 of 3 searches"
    assert told in shown and "2.0 trials' training beyond" in shown
    assert "a gain in accuracy for: none; in NLL for: inits, top, checkpoints, average." in shown
