"""Two records that must be equal to the bit."""

from __future__ import annotations

from experiments.records.store import read

WALL_CLOCK = ("seconds",)


def tables(folder):
    """(trials, evaluations, norms) without wall-clock columns."""
    record = read(folder)
    return record.trials.drop(*WALL_CLOCK), record.evaluations, record.norms


def assert_same_record(one, other):
    for mine, theirs in zip(tables(one), tables(other), strict=True):
        assert (mine is None) == (theirs is None)
        if mine is not None:
            assert mine.equals(theirs)
