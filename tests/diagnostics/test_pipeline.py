"""A pipeline under examination: what is switched off while a net is to learn by heart."""

from __future__ import annotations

import pytest

from experiments.diagnostics.pipeline import is_regulariser
from optimizers import OPTIMIZERS
from workloads import WORKLOADS, get

REGULARISERS = {"weight_decay", "dropout_rate", "label_smoothing"}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_of_an_optimizers_hyperparameters_weight_decay_alone_regularizes(name):
    """RMSProp's ``decay`` and Adafactor's exponent are averages of squares: 0 is another rule."""
    found = {row.name for row in OPTIMIZERS[name].hyperparameters if is_regulariser(row.name)}
    assert found <= REGULARISERS


def test_all_that_the_workloads_declare_regularizes():
    names = {name for workload in WORKLOADS for name in get(workload).hyperparameters}
    assert names == {name for name in names if is_regulariser(name)} <= REGULARISERS
