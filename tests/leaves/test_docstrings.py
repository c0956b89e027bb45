"""The examples in docstrings of workloads, optimizers and schedules run and print what they say."""

from __future__ import annotations

import doctest
import importlib

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from optimizers import AVERAGINGS, CLIPPINGS, OPTIMIZERS
from workloads.registry import resolve

AT_HAND = {"jnp": jnp, "np": np, "optax": optax}
"""What an example may use beside its own module, as docs/optimizers.md says."""
RULES = [row.rule for row in (*OPTIMIZERS.values(), *CLIPPINGS.values(), *AVERAGINGS.values())]
OTHERS = (
    "schedules.batch_size", "schedules.durations", "schedules.momentum", "schedules.plateau",
    "schedules.rescaling", "schedules.shapes", "workloads.losses", "workloads.preprocessing",
    "workloads.registry",
)  # fmt: skip
MODULES = sorted({*OTHERS, *(rule.split(":")[0] for rule in RULES)})


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    result = doctest.testmod(importlib.import_module(name), extraglobs=AT_HAND)
    assert result.attempted > 0 and result.failed == 0


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_an_example(rule):
    assert ">>> " in resolve(rule).__doc__
