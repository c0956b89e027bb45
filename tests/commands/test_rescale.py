"""rescale: the values at other batch sizes, what each rule keeps, errors in one line."""

from __future__ import annotations

import pytest
from support.tolerances import SIX_DIGITS

from experiments.cli import main
from schedules.rescaling import RULES, rescale

GIVEN = {"learning_rate": 0.1, "momentum": 0.9, "weight_decay": 0.01, "warmup_steps": 500.0}


def printed(capsys, *arguments):
    assert main(["rescale", *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_table_is_rescales_and_every_rule_says_what_it_keeps(capsys):
    rule = "square_root+half_life+weight_decay_timescale+warmup_examples"
    pairs = [f"{name}={value}" for name, value in GIVEN.items()]
    lines = printed(capsys, "--rule", rule, "--from", "64", "--to", "16", "512", "--set", *pairs)
    assert lines[0].split() == ["B", "=", "64", "B", "=", "16", "B", "=", "512"]
    for line, name in zip(lines[1:], GIVEN, strict=False):
        found = [rescale(GIVEN, 64, size, rule)[name] for size in (64, 16, 512)]
        first, *cells = line.split()
        assert first == name
        assert [float(cell) for cell in cells] == pytest.approx(found, rel=SIX_DIGITS)
    told = "\n".join(lines[1 + len(GIVEN) :])
    for name in rule.split("+"):
        assert f"{name}: {RULES[name].formula}\n  keeps {RULES[name].invariant}" in told


def test_list_tells_every_rule_with_its_invariant(capsys):
    assert main(["list", "rescalings"]) == 0
    text = capsys.readouterr().out
    for name, row in RULES.items():
        assert f"  {name} " in text and row.invariant in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["liner", "learning_rate=0.1"], "'liner' is unknown; did you mean 'linear'"),
        (["linear", "learning_rat=0.1"], "hyperparameter 'learning_rat' is unknown"),
        (["linear", "learning_rate=fast"], "learning_rate must be a finite number, got 'fast'"),
        (["linear", "momentum=1"], "momentum must lie in [0, 1), got 1.0"),
        (["linear+square_root", "momentum=0.5"], "rule may change learning_rate once"),
    ],
)
def test_errors_are_one_line(capsys, arguments, message):
    rule, pair = arguments
    assert main(["rescale", "--rule", rule, "--from", "8", "--to", "16", "--set", pair]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
