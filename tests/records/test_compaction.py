"""Compaction: how often a byte is written, and what a commit costs in a large study."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from experiments.records import compaction
from experiments.records.state import TrialStates
from experiments.records.store import Writer, read
from experiments.spec.trial import Status, Trial, TrialResult

STUDY = {"identity": "one", "study": {"name": "one"}, "hyperparameters": []}


@pytest.mark.parametrize(
    ("commit", "commits", "most"),
    [(1_000, 100_000, 6.0), (2_000, 60_000, 4.5), (20_000, 20_000, 4.0), (200_000, 3_000, 3.2)],
)
def test_write_amplification(commit, commits, most):
    """The policy on sizes alone: bytes written over bytes committed, groups left, largest group."""
    sizes, written, largest_count = [], 0, 0
    for _ in range(commits):
        sizes.append(commit)
        written += commit
        while chosen := compaction.choose(sizes):
            merged = sum(sizes[i] for i in chosen)
            sizes = [size for i, size in enumerate(sizes) if i not in set(chosen)] + [merged]
            written += merged
        largest_count = max(largest_count, len([s for s in sizes if s < compaction.TIERS[-1]]))
    assert written / (commit * commits) < most
    assert largest_count <= len(compaction.TIERS) * compaction.MOST_SMALL_GROUPS
    assert max(sizes) < 2 * compaction.TIERS[-1]


def results(first: int, last: int) -> list[TrialResult]:
    steps = {"step": np.arange(1, 3), "validation/error": np.array([1.0, 0.5])}
    return [
        TrialResult(Trial(8, 0, i, 2, {}, str(i)), Status.COMPLETE, 2, steps)
        for i in range(first, last)
    ]


def test_bytes_written_of_real_commits(tmp_path, monkeypatch):
    """As the policy says, with the real parts: their overhead shrinks when they are merged."""
    from experiments.records import files, groups

    written = []

    def counted(path, data, sync=True):
        written.append((path.name, len(data)))
        return files.write_whole(path, data, sync)

    monkeypatch.setattr(groups, "write_whole", counted)
    with Writer.open(tmp_path, STUDY) as writer:
        sizes = []
        for i in range(120):
            before = len(written)
            writer.commit(results(i, i + 1))
            sizes.append(sum(size for name, size in written[before : before + 2]))
    total = sum(size for name, size in written if name.endswith("parquet"))
    assert total / sum(sizes) < 3
    assert read(tmp_path).trials.height == 120


def test_a_commit_and_the_writers_memory_do_not_grow_with_the_trials(tmp_path, monkeypatch):
    """Per 10,000 more trials the writer keeps less than 100 kB, and a commit reads no part."""
    from experiments.records import groups

    opened = []
    real = groups.open_part

    def counted(path):
        opened.append(path)
        return real(path)

    monkeypatch.setattr(groups, "open_part", counted)
    kept, opens = [], []
    with Writer.open(tmp_path, STUDY) as writer:
        tracemalloc.start()
        for tenth in range(4):
            writer.commit(results(10_000 * tenth, 10_000 * (tenth + 1)))
            before = len(opened)
            writer.commit(results(100_000 + tenth, 100_001 + tenth))
            opens.append(len(opened) - before)
            kept.append(tracemalloc.get_traced_memory()[0])
        tracemalloc.stop()
    assert opens == [0, 0, 0, 0]
    assert kept[3] - kept[1] < 200_000


def test_states_keep_a_byte_a_trial_and_the_group_of_incomplete_ones():
    states = TrialStates()
    states.add([((8, 0, 0), Status.COMPLETE), ((8, 0, 5), Status.INCOMPLETE)], 1)
    assert states.get((8, 0, 0)) == Status.COMPLETE and states.get((8, 0, 5)) == Status.INCOMPLETE
    assert states.get((8, 0, 3)) is states.get((8, 0, 6)) is states.get((4, 0, 0)) is None
    states.merged([1], 2)
    assert states.incomplete == {(8, 0, 5): 2}
    states.add([((8, 0, 5), Status.INFEASIBLE)], 3)
    assert states.incomplete == {} and states.get((8, 0, 5)) == Status.INFEASIBLE
