"""Bad values are refused when a study is constructed, in one line that names the field."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.engine_factory import TINY, tiny_study

from experiments.spec.comparison import Comparison
from experiments.spec.errors import first_line, in_one_line
from experiments.spec.fields import ROWS
from experiments.spec.paths import Paths
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.space import Choice, Real
from experiments.spec.study import Study
from experiments.spec.trial import Precision
from workloads import Goal


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../../evil"}, "name must be a file name of 1 to 100 letters"),
        ({"name": "a/b"}, "got 'a/b'"),
        ({"name": ""}, "got ''"),
        ({"name": ".hidden"}, "got '.hidden'"),
        ({"name": "-rf"}, "got '-rf'"),
        ({"name": "a\x00b"}, "name must be a file name"),
        ({"name": "line\nbreak"}, "name must be a file name"),
        ({"name": "x" * 101}, "name must be a file name"),
        ({"name": None}, "name must be a file name of 1 to 100 letters"),
        ({"question": 5}, "question must be Unicode text"),
        ({"question": "Up?\x1b[1A\x1b[2K"}, "without control characters"),
        ({"expected": "that \u202etxet this"}, "without control characters"),
        ({"seeds": ()}, "seeds must hold at least one number"),
        ({"seeds": (1, 1)}, "seeds must be distinct whole numbers, got (1, 1)"),
        ({"seeds": "01"}, "seeds must be a tuple of whole numbers, got '01'"),
        ({"seeds": (2**63,)}, "seeds must be a whole number in 0..9223372036854775807"),
        ({"seeds": (2**64,)}, "got 18446744073709551616"),
        ({"trials": 10**9}, "trials must be a whole number in 1..1000000, got 1000000000"),
        ({"step_budget": 10**12}, "step_budget must be a whole number in 1..2147483647"),
        ({"step_budget": 3 * 10**9}, "got 3000000000"),
        ({"example_budget": 10**12}, "example_budget must be at most 2147483647 steps"),
        ({"train_steps": {8: 2**31}}, "train_steps of batch size 8 must be a whole number in"),
        ({"train_steps": {0: 100}}, "a batch size of train_steps must be a whole number"),
        ({"train_steps": 100}, "train_steps must be a mapping from batch sizes to steps"),
        ({"batch_sizes": range(1, 10_001)}, "batch_sizes must hold at least one batch size and at"),
        ({"batch_sizes": 8}, "batch_sizes must be a tuple of whole numbers, got 8"),
        ({"batch_sizes": (True,)}, "batch_sizes must be a whole number"),
        ({"evaluation_spacing": 0}, "evaluation_spacing must lie in (0, 1], got 0"),
        ({"evaluation_spacing": math.nan}, "evaluation_spacing must lie in (0, 1], got nan"),
        ({"precision": "bfloat16"}, "precision must be a Precision(...), got 'bfloat16'"),
        ({"fixed": []}, "fixed must be a mapping from hyperparameters to numbers, got []"),
        ({"fixed": {"momentum": True}}, "hyperparameter momentum must be a finite number, got Tru"),
        ({"goal": 0.04}, "goal must be a Goal(...), got 0.04"),
        ({"space": ["learning_rate"]}, "space must be a mapping from hyperparameters to ranges"),
        ({"space": {"learning_rate": 0.1}}, "space of learning_rate must be a Real, Integer"),
        ({"workload": "digits"}, "workload must be a Workload(...), got 'digits'"),
        ({"norms_per_layer": 1}, "norms_per_layer must be True or False, got 1"),
        ({"optimizer": 7}, "optimizer 7 is unknown"),
        ({"max_batch_size": 0}, "max_batch_size must be a whole number of at least 1, got 0"),
    ],
)
def test_a_value_that_cannot_be_is_named(changes, message):
    with pytest.raises(ValueError, match=".") as caught:
        tiny_study(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "name", ["quickstart", "quickstart-momentum=0.9", "q-warmup_steps=5%", "a+b,c_d", "x" * 100]
)
def test_names_that_options_and_reports_make_are_legal(name):
    assert tiny_study(name=name).name == name


def test_names_of_comparisons_and_paths_are_file_names_too():
    pair = {"a": tiny_study(), "b": tiny_study()}
    with pytest.raises(ValueError, match="name must be a file name"):
        Comparison("../c", "?", pair)
    for label in ("", "../b", ".b", "x" * 101, 5):
        with pytest.raises(ValueError, match="a label of studies must be a file name"):
            Comparison("c", "?", {"a": tiny_study(), label: tiny_study()})
    with pytest.raises(ValueError, match="study b must be a Study"):
        Comparison("c", "?", {"a": tiny_study(), "b": "another"})
    with pytest.raises(ValueError, match="name must be a file name"):
        Paths("a/b", "?", (), (), 1, ())


VALUES = [
    None, True, 0, 1, -1, 5, 2.5, 1e300, 10**12, 2**63, math.nan, math.inf, "", "x", "0.5", "adam",
    "5%", b"x", (), (1,), (8, 64), ("a",), [8], [[8]], [None], {}, {"a": 1}, {"learning_rate": 0.1},
    {"learning_rate": "x"}, {8: 100}, {"8": 100}, {8: "x"}, {None: 1}, {1.5: 2}, {8}, object(),
    len, Real(0.1, 1.0), {"learning_rate": Real(0.1, 1.0)}, {"learning_rate": Choice(("a",))},
    {"learning_rate": {"low": 0.1}}, Goal("classification_error", 0.1), Goal("x", 0.1),
    Precision(), Precision, TINY, Study, range(3), range(10**9), np.arange(3),
    np.array(3), np.float64(3), np.int64(8), np.bool_(True), 1j, "a/b", "é", "a" * 200, "a\nb",
    "\ud800", iter([8]),
]  # fmt: skip
"""Of many types; few of them fit a field."""
FIELDS = {
    "name": "tiny", "question": "?", "workload": TINY, "batch_sizes": (8, 64), "step_budget": 60,
    "example_budget": 512,
}  # fmt: skip


@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from(sorted(ROWS)), st.sampled_from(VALUES), max_size=3))
def test_any_type_in_any_field_is_refused_in_one_line_or_makes_a_whole_study(changes):
    try:
        study = Study(**{**FIELDS, **changes})
    except ValueError as error:
        assert "\n" not in str(error)
        return
    described = study.resolved.describe()
    assert ResolvedStudy.from_description(json.loads(json.dumps(described))).describe() == described
    assert hash(study.resolved.config("off")) == hash(study.resolved.config("off"))


@pytest.mark.parametrize("name", list(ROWS))
def test_a_value_of_another_type_names_its_field(name):
    """An object is a value of no field."""
    with pytest.raises(ValueError, match=f"{name.replace('_', '[_ ]')}.* <object"):
        Study(**{**FIELDS, name: object()})


def test_an_exceptions_words_move_no_terminal():
    error = RuntimeError("lost \x1b[2J\u202eit\x9b\nand more")
    assert first_line(error) == r"lost \x1b[2J\u202eit\x9b"
    assert in_one_line(error) == r"RuntimeError: lost \x1b[2J\u202eit\x9b"
