"""The table of NAS-Bench-201 is read as it was made, and our counts agree with it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.architecture_search import FILES, SPACE, described, searched, table
from experiments.search.architecture.operations import OPERATIONS
from experiments.search.architecture.strategies.table import strategy
from experiments.search.architecture.streams import Stream

OPTIMA = {"cifar10": 91.61, "cifar100": 73.49, "imagenet16-120": 46.73}


def test_the_best_cells_are_those_that_are_published():
    for dataset in FILES:
        assert len(table(dataset).mean) == SPACE.codes
        assert described(dataset)["best_mean_accuracy"] == pytest.approx(OPTIMA[dataset], abs=0.005)


def test_parameters_counted_from_the_operations_are_those_of_the_table():
    """Five cells each of 16, 32 and 64 channels, and 73,306 parameters around them."""
    stream = Stream("test parameters", 0)
    for _ in range(100):
        code = SPACE.sample(stream)
        names = [name for name in SPACE.options(code).values() if name != "none"]
        counted = 73_306 + 5 * sum(
            OPERATIONS[str(name)].cost((8, 8, channels), None).parameters
            for channels in (16, 32, 64)
            for name in names
        )
        assert counted == table("cifar10").parameters[code], SPACE.options(code)


@pytest.mark.parametrize("one_seed", [False, True])
def test_a_search_of_the_table_repeats_and_spends_time(one_seed):
    regrets, seconds = searched(strategy("local"), "cifar10", 3, 20, one_seed=one_seed)
    again, _ = searched(strategy("local"), "cifar10", 3, 20, one_seed=one_seed)
    np.testing.assert_array_equal(regrets, again)
    assert regrets.min() >= 0
    assert one_seed or np.all(np.diff(regrets) <= 0)
    assert np.all(np.diff(seconds) > 100)
