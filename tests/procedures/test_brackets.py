"""The edge of stability of the noisy quadratic model, where it is known, by every procedure."""

from __future__ import annotations

import dataclasses

import pytest
from support.procedure_child import TRAIN, quadratic
from support.tolerances import SIX_DIGITS

from experiments.procedures.budget import Budget
from experiments.procedures.procedure import Procedure, Running
from experiments.procedures.rates import sweep
from experiments.procedures.sweep_options import SweepOptions
from experiments.procedures.warmup_search import warmup_search

MU, FACTOR = 0.9, 1.5
EDGES = {"sgd": 2.0, "momentum": 2 * (1 + MU), "nesterov": 2 * (1 + MU) / (1 + 2 * MU)}
FIRST_LOSS = 0.5 * sum(1 / k for k in range(1, 101))
"""Expected before training: 1/2 sum h_j E theta_j^2."""
QUICK = Running(train=TRAIN)


def grid(edge, below, above):
    """Rates by the factor, from ``below`` steps under the edge to ``above`` over it."""
    return SweepOptions(
        rates=(edge * FACTOR**-below, edge * FACTOR**above), factor=FACTOR, running=QUICK
    )


@pytest.mark.parametrize(
    ("optimizer", "batch_size"),
    [("sgd", 1), ("momentum", 1), ("nesterov", 1), ("momentum", 64)],
)
def test_the_sweep_of_every_procedure_brackets_the_known_edge(optimizer, batch_size, tmp_path):
    """Trained for real, the noise floor of batch size 1 included; other cases are simulated in
    tests/analysis/test_training_stability.py."""
    fixed = {} if optimizer == "sgd" else {"momentum": MU}
    study, options = quadratic(optimizer, batch_size, fixed=fixed), grid(EDGES[optimizer], 7.5, 1.4)
    with Procedure("bracket", tmp_path / "p", {}, QUICK) as procedure:
        found = sweep(procedure, options.base_of(study), options.ends_of(study), FIRST_LOSS)
    assert found.bracket.stable < EDGES[optimizer] < found.bracket.unstable
    assert found.bracket.unstable == pytest.approx(
        FACTOR * found.bracket.stable, rel=2 * SIX_DIGITS
    )


def test_a_warmup_search_starts_from_that_edge(tmp_path):
    budget = Running(Budget.parse("2000steps"), TRAIN)  # ends after the sweep
    options = dataclasses.replace(grid(2.0, 5.5, 1.4), running=budget)
    values = warmup_search(quadratic(), tmp_path / "s", options).values
    assert 2.0 < values["unstable_base_learning_rate"] < 2.0 * FACTOR
