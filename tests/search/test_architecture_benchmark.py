"""The table of NAS-Bench-201 is read as it was made, and our counts agree with it."""

from __future__ import annotations

import numpy as np
import pytest
from support.tolerances import TWO_DECIMALS

from benchmarks.architecture_search import FILES, SPACE, described, searched, table
from experiments.search.architecture.operations import OPERATIONS
from experiments.search.architecture.strategies.table import strategy

OPTIMA = {"cifar10": 91.61, "cifar100": 73.49, "imagenet16-120": 46.73}


def test_the_best_cells_are_those_that_are_published():
    for dataset in FILES:
        assert len(table(dataset).mean) == SPACE.codes
        assert described(dataset)["best_mean_accuracy"] == pytest.approx(
            OPTIMA[dataset], abs=TWO_DECIMALS
        )


def test_parameters_counted_from_the_operations_are_those_of_the_table():
    """Five cells each of 16, 32 and 64 channels, and 73,306 parameters around them.

    150 of the table's 15,625 rows differ, by one convolution each.
    """
    each = [0] + [
        5
        * sum(OPERATIONS[str(name)].cost((8, 8, width), None).parameters for width in (16, 32, 64))
        for name in SPACE.choices[0][1][1:]
    ]
    counted = {code: 73_306 + sum(each[i] for i in code) for code in table("cifar10").parameters}
    off = [abs(n - counted[code]) for code, n in table("cifar10").parameters.items()]
    assert sum(n != 0 for n in off) == 150
    assert set(off) == {0, each[2], each[3]}


@pytest.mark.parametrize("one_seed", [False, True])
def test_a_search_of_the_table_repeats_and_spends_time(one_seed):
    regrets, seconds = searched(strategy("local"), "cifar10", 3, 20, one_seed=one_seed)
    again, _ = searched(strategy("local"), "cifar10", 3, 20, one_seed=one_seed)
    np.testing.assert_array_equal(regrets, again)
    assert regrets.min() >= 0
    assert one_seed or np.all(np.diff(regrets) <= 0)
    assert np.all(np.diff(seconds) > 100)
