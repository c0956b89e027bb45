"""A user's own study file: what it may not do, its text in the record, and what comes of it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from support.engine_factory import tiny_study
from support.records_factory import make_record

from experiments import studies
from experiments.analysis.findings import Unreached
from experiments.analysis.next_step import next_step
from experiments.analysis.question import read_question
from experiments.cli import main
from experiments.search.fidelity import Pruner
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.study import resolve

STUDY = """
import dataclasses
from experiments.spec.study import Study
from workloads.digits_fc import WORKLOAD
STUDY = Study(
    name="mine", question="Does it run?", workload=dataclasses.replace(
        WORKLOAD, model_options={"hidden_sizes": [], "classes": 10}),
    batch_sizes=(64,), step_budget=3, example_budget=64, trials=1, record_norms="off",
)
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys; sys.exit(0)", "calls sys.exit(0)"),
        ("import sys; sys.exit(3)", "calls sys.exit(3)"),
        ("raise GeneratorExit('enough')", "fails: GeneratorExit: enough"),
        ("class Own(BaseException): pass\nraise Own('a\\nb')", "fails: Own: a b"),
        ("this is no Python", "fails: SyntaxError: "),
        ("STUDY = 5", "STUDY of the study file mine.py must be defined, as a Study(...)"),
        (STUDY + "SMOKE = 5", "SMOKE of the study file mine.py must be defined, as a Study(...)"),
        ("", "STUDY of the study file mine.py must be defined, as a Study(...)"),
        (STUDY + "STUDY = dataclasses.replace(STUDY, name='../evil')", "name must be a file name"),
    ],
)
def test_a_file_that_makes_no_study_is_one_line_and_nothing_on_disk(
    text, said, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(text)
    assert main(["run", "mine.py", "--smoke"]) == 2
    printed = capfd.readouterr()
    (line,) = printed.err.splitlines()
    assert line.startswith("batchscale: error: ") and said in line
    assert printed.out == ""
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


@pytest.mark.parametrize(
    ("pruner", "trials"),
    [("hyperband", 9), ("successive_halving", 5), ("asha", 5), ("median", 4), ("patience", 4)],
)
def test_a_smoke_variant_has_at_least_the_trials_that_its_pruner_takes(pruner, trials):
    study = tiny_study(
        step_budget=100, example_budget=800, trials=60, sampler="halton", pruner=pruner,
        pruner_eta=3 if pruner == "hyperband" else 5,
        patience=2 if pruner == "patience" else None,
    )  # fmt: skip
    small = resolve(studies.shrunk(study))
    assert (small.pruner, small.trials, small.step_budget) == (pruner, trials, 10)
    Pruner.of(small).check(small.trials)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("--seed 9223372036854775808", "seeds must be a whole number in 0..9223372036854775807"),
        ("--seed 99999999999999999999", "seeds must be a whole number in 0..9223372036854775807"),
        ("--trials 1000000000", "trials must be a whole number in 1..1000000, got 1000000000"),
        ("--budget 3000000000steps", "step_budget must be a whole number in 1..2147483647"),
        ("--budget 1e12examples", "example_budget must be at most 2147483647 steps"),
        ("--fix momentum=../x", "name must be a file name"),
    ],
)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_numbers_and_names_that_cannot_be_are_refused_before_anything(
    command, options, said, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    assert main([command, "quickstart", *options.split()]) == 2
    printed = capfd.readouterr()
    assert said in printed.err and len(printed.err.splitlines()) == 1 and printed.out == ""
    assert not list(tmp_path.iterdir())


def test_a_changed_file_is_refused_until_it_is_allowed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    mine, record = Path("mine.py"), Path("runs/mine")
    mine.write_text(STUDY)
    run = ["run", "mine.py", "--execution", "loop"]
    assert main(run) == 0
    before = {path: path.read_bytes() for path in record.rglob("*") if path.is_file()}
    begun = json.loads((record / "study.json").read_text())
    capfd.readouterr()
    mine.write_text(STUDY + "# another text\n")
    assert main([*run, "--trials", "2"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "mine.py changed since the record was begun (sha256 " in line
    assert "--allow-changed-code" in line
    assert {path: path.read_bytes() for path in record.rglob("*") if path.is_file()} == before
    assert main([*run, "--trials", "2", "--allow-changed-code"]) == 0
    grown = json.loads((record / "study.json").read_text())
    assert grown["identity"] == begun["identity"] and grown["study"]["trials"] == 2
    assert grown["study"]["code"] == begun["study"]["code"]
    (changed,) = grown["changed_code"]
    assert changed.keys() == {"mine.py"} and changed != begun["study"]["code"]
    assert main([*run, "--trials", "2"]) == 0  # allowed once
    assert json.loads((record / "study.json").read_text())["changed_code"] == [changed]
    assert "Code since changed to" in (record / "report" / "index.html").read_text()


def test_the_next_command_is_quoted_for_the_shell():
    source, out = "my studies/it's.py", "a folder; rm -rf x"
    study = tiny_study(command=(source, "--smoke", "--seed", "3", "--out", out), seeds=(3,))
    question = read_question(make_record(study))
    words = shlex.split(next_step(question, []).command)
    assert words == ["batchscale", "run", source, "--smoke", "--out", out, "--seed", "4"]


def test_a_proposed_file_runs_with_the_models_of_the_users_file(tmp_path, monkeypatch, capfd):
    """It is executed as `batchscale run FILE` executes it, from a path with a quote and a space."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my studies' own"
    folder.mkdir()
    (folder / "mine.py").write_text(
        STUDY.replace(
            "STUDY =",
            "from workloads.models.fully_connected import fully_connected\n"
            "def net(**options): return fully_connected(**options)\n"
            "STUDY =",
        ).replace("WORKLOAD, ", "WORKLOAD, model=net, ")
    )
    base = studies.get(str(folder / "mine.py"))
    question = read_question(make_record(base))
    proposed = next_step(question, [Unreached((64,))])
    Path(proposed.file_name).write_text(proposed.file_text)
    _, _, *words = shlex.split(proposed.command)
    assert main(["run", *words, "--execution", "loop"]) == 0
    recorded = json.loads(Path("runs/mine_longer/study.json").read_text())["study"]
    assert recorded["train_steps"] == {"64": 2 * question.train_steps[64]}
    assert set(recorded["code"]) == {"mine.py", "mine_longer.py"}
    assert ResolvedStudy.from_description(recorded).describe() == recorded
    capfd.readouterr()
    assert main(["evaluate", "runs/mine_longer", "--trial", "64/0"]) == 0


def test_a_name_of_a_hundred_letters_still_gets_a_proposed_file():
    question = read_question(make_record(tiny_study(name="x" * 100)))
    proposed = next_step(question, [Unreached((8,))])
    assert proposed.file_name == "x" * 93 + "_longer.py"
