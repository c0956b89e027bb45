"""The examples in docstrings of workloads, optimizers and schedules run and print what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

MODULES = ("workloads.registry",)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name):
    failed, attempted = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert attempted > 0 and failed == 0
