"""Searches over a function with a known optimum."""

from __future__ import annotations

import math

from experiments.records.store import read
from experiments.runner.search import search
from experiments.spec.space import Real

RATE = {"rate": Real(1e-4, 1.0, "log")}


def valley(hyperparameters, budget, report):
    """Lowest at a rate of 1e-2; falls with the budget."""
    level = (math.log10(hyperparameters["rate"]) + 2) ** 2
    for unit in range(report.last + 1, budget + 1):
        if not report(unit, level + 1 / unit):
            return


def run(tmp_path, space=RATE, objective=valley, **options):
    """A search that records in a folder of ``tmp_path`` and prints nothing, unless told."""
    options = {"folder": tmp_path / "record", "show": False, **options}
    return search(space, objective=objective, **options)


def rows(folder):
    """All that a record says of its trials, but the time they took."""
    record = read(folder)
    return record.trials.drop("seconds"), record.evaluations
