"""The source itself: pieces that one can hold in the head, docstrings that speak plainly."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import experiments
import optimizers
import schedules
import workloads

PACKAGES = (experiments, workloads, optimizers, schedules)
LONGEST_CLASS = 200
MOST_PARAMETERS = 5
LONGEST_FILE = 400

LONG = frozenset({"experiments/spec/fields.py"})
"""A file of rows, one a field, may be as long as there are rows."""

TESTS = Path(__file__).parents[1]
TOLERANCES = ("rtol", "atol", "rel", "abs", "rel_tol", "abs_tol", "decimal")
COMPARE = {"approx": 1, "isclose": 2, "allclose": 2, "assert_allclose": 2}
"""Function -> its first argument, by place, that is a tolerance."""

QUESTIONS = ("What", "Whether", "Who", "Where", "How", "Which", "When", "Why")
UNCHANGED = "experiments/studies/"
"""The docstring of a study is its question."""


def sources() -> Iterator[tuple[str, str]]:
    """(path from the packages' folder, text) of every module."""
    for package in PACKAGES:
        room = Path(package.__path__[0])
        for path in sorted(room.rglob("*.py")):
            yield path.relative_to(room.parent).as_posix(), path.read_text()


MODULES = {path: ast.parse(text) for path, text in sources()}


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[str, ast.AST]]:
    """(path, node) of every node of these kinds."""
    for path, module in MODULES.items():
        for node in ast.walk(module):
            if isinstance(node, kinds):
                yield path, node


def test_no_class_is_longer_than_one_can_hold_in_the_head():
    found = [
        (path, node.name)
        for path, node in nodes(ast.ClassDef)
        if node.end_lineno - node.lineno >= LONGEST_CLASS
    ]
    assert not found


def test_no_signature_has_more_than_five_parameters_but_keyword_only_ones():
    found = []
    for path, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef):
        names = [argument.arg for argument in (*node.args.posonlyargs, *node.args.args)]
        if len([name for name in names if name not in ("self", "cls")]) > MOST_PARAMETERS:
            found.append((path, node.name, names))
    assert not found


def test_no_file_is_much_longer_than_its_neighbours():
    found = {path: text.count("\n") for path, text in sources()}
    assert {path for path, lines in found.items() if lines > LONGEST_FILE} <= LONG


def test_docstrings_begin_with_a_noun_or_a_verb_not_with_a_question():
    found = []
    for path, node in nodes(ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef):
        text = ast.get_docstring(node) or "."
        question = text.split()[0].rstrip(",:.") in QUESTIONS
        if question and not path.startswith(UNCHANGED):
            found.append((path, getattr(node, "name", "the module"), text.split("\n")[0]))
    assert not found


def test_every_class_has_a_name_of_its_own():
    places = defaultdict(list)
    for path, node in nodes(ast.ClassDef):
        places[node.name].append(path)
    assert not {name: paths for name, paths in places.items() if len(paths) > 1}


def bare(tolerance: ast.expr) -> bool:
    """True of a literal below one that is no argument, and of a number without a name."""
    parts = list(ast.walk(tolerance))
    inside = {part for call in parts if isinstance(call, ast.Call) for part in ast.walk(call)}
    numbers = [p.value for p in parts if isinstance(p, ast.Constant) and p not in inside]
    small = [number for number in numbers if isinstance(number, float) and abs(number) < 1]
    return bool(small or any(numbers) and not any(isinstance(p, ast.Name) for p in parts))


@pytest.mark.parametrize(
    ("tolerance", "expected"),
    [
        ("1e-6", True), ("2", True), ("1.1 / 384", True), ("1e-6 * scale", True),
        ("0", False), ("ROUNDING", False), ("10 * ROUNDING", False), ("errors(0.5, 9)", False),
    ],
)  # fmt: skip
def test_a_bare_tolerance_is_one_without_a_name(tolerance, expected):
    assert bare(ast.parse(tolerance, mode="eval").body) is expected


def test_tolerances_have_a_name_that_says_why():
    """Those that several tests share are in support/tolerances.py."""
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                given = node.args[COMPARE[name] :] if name in COMPARE else []
                given += [k.value for k in node.keywords if k.arg in TOLERANCES]
                found += [(path.name, node.lineno) for value in given if bare(value)]
    assert not found
