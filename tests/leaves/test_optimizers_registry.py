"""The tables: light to import, documented, with legal defaults and spaces; the page is current."""

from __future__ import annotations

import dataclasses
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import workloads
from experiments.spec import space as spaces
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import Study
from optimizers import AVERAGINGS, CLIPPINGS, OPTIMIZERS
from optimizers.describe import document, main, paragraphs
from schedules import MOMENTUM_SCHEDULES, SCHEDULES
from workloads.registry import resolve

PAGE = Path(__file__).parents[2] / "docs" / "optimizers.md"
ROWS = [*OPTIMIZERS.values(), *CLIPPINGS.values(), *AVERAGINGS.values()]
NUMBERS = {
    f"{row.name}-{number.name}": number
    for row in (*ROWS, *SCHEDULES.values(), *MOMENTUM_SCHEDULES.values())
    for number in row.hyperparameters
}


def test_page_is_current(tmp_path):
    assert PAGE.read_text(encoding="utf-8") == document(), (
        "run: python -m optimizers.describe docs/optimizers.md"
    )
    assert main([str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == document()
    assert main([]) == 2


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_docstring_is_a_specification(name):
    text = "\n\n".join(paragraphs(resolve(OPTIMIZERS[name].rule)))
    for part in ("```\n", "**Compared with Optax and PyTorch:**", "**Reference:**"):
        assert part in text, part


def test_tables_import_no_jax():
    code = "import sys, optimizers, schedules, schedules.durations, schedules.rescaling; "
    code += "sys.exit('jax' in sys.modules or 'optax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("label", NUMBERS)
def test_defaults_and_spaces_are_legal(label):
    number = NUMBERS[label]
    assert number.meaning
    if number.default is not None:
        number.check(number.default)
    if number.space is not None:
        distribution = spaces.from_json(number.space)
        for unit in (0.0, 1.0):
            number.check(distribution.value(unit))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_more_trials_search_more_hyperparameters(name):
    optimizer = OPTIMIZERS[name]
    sizes = [set(optimizer.spaces(trials)) for trials in (1, 10, 25, 50)]
    assert all(fewer <= more for fewer, more in itertools.pairwise(sizes))
    assert sizes[-1] == {row.name for row in optimizer.hyperparameters if row.space}
    required = {row.name for row in optimizer.hyperparameters if row.default is None}
    assert required <= sizes[0]


@pytest.mark.parametrize("name", ["adam", "nadam"])
@pytest.mark.parametrize(
    ("trials", "searched"),
    [
        (9, {"learning_rate"}),
        (10, {"learning_rate", "beta1"}),
        (24, {"learning_rate", "beta1"}),
        (25, {"learning_rate", "beta1", "epsilon"}),
        (50, {"learning_rate", "beta1", "epsilon", "beta2"}),
    ],
)
def test_playbook_budgets_for_adam(name, trials, searched):
    assert set(OPTIMIZERS[name].spaces(trials)) == searched


def study(**changes) -> ResolvedStudy:
    plain = dataclasses.replace(workloads.get("digits_fc"), search_spaces={})
    given = {"name": "x", "question": "?", "workload": plain, "batch_sizes": (16,),
             "step_budget": 10, "example_budget": 160, "optimizer": "adam",
             "trials": 9}  # fmt: skip
    return Study(**given | changes).resolved


def test_a_study_takes_the_space_for_its_trials():
    assert set(study().space) == {"learning_rate"}
    assert set(study(trials=30, schedule="inverse_sqrt").space) == {
        "learning_rate", "beta1", "epsilon", "timescale_steps",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"optimizer": "adm"}, "optimizer 'adm' is unknown; did you mean 'adam'"),
        (
            {"fixed": {"epsilom": 0.9}},
            "hyperparameter 'epsilom' is unknown; did you mean 'epsilon'",
        ),
        ({"fixed": {"beta1": 1.0}}, r"beta1 must lie in \[0, 1\), got 1.0"),
        ({"fixed": {"learning_rate": 0.0}}, r"learning_rate must lie in \(0, 1e\+06\], got 0.0"),
        ({"fixed": {"warmup_steps": -1.0}}, "warmup_steps must lie in"),
        ({"schedule": "cosin"}, "schedule 'cosin' is unknown; did you mean 'cosine'"),
        (
            {"space": {"learning_rate": {"type": "real", "low": -1.0, "high": 1.0}}},
            r"learning_rate must lie in \(0, 1e\+06\], got -1.0",
        ),
    ],
)
def test_unknown_or_illegal_hyperparameters_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        study(**changes)
