"""The command line: one clear line for every bad input, nothing changed on disk, exit codes."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.engine_factory import tiny_study

from experiments.cli import main
from experiments.commands.listing import LISTED
from experiments.runner.study import run_study
from experiments.studies import get

STUDY_FILE = """
import sys
sys.path.insert(0, {tests!r})
from support.engine_factory import tiny_study
STUDY = tiny_study({arguments})
"""
FOREVER = "step_budget=2_000_000, trials=20, batch_sizes=(8,)"


@pytest.fixture
def study_file(tmp_path):
    """Writes a study file and returns its path."""

    def write(arguments=""):
        path = tmp_path / "mine.py"
        tests = str(Path(__file__).parents[1])
        path.write_text(STUDY_FILE.format(tests=tests, arguments=arguments))
        return path

    return write


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a small finished study."""
    return run_study(tiny_study(), tmp_path_factory.mktemp("cli") / "tiny")


def snapshot(folder):
    """Every file below a folder, with its bytes."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("run quikstart", "study 'quikstart' is unknown; did you mean 'quickstart'?"),
        ("run nowhere.py", "study file nowhere.py does not exist"),
        ("run broken.py", "study file broken.py fails: ZeroDivisionError"),
        ("run empty.py", "STUDY of the study file empty.py must be defined"),
        ("run quickstart --batch-sizes 0", "must be a whole number of at least 1, got '0'"),
        ("run quickstart --batch-sizes 4 -8", "got '-8'"),
        ("run quickstart --batch-sizes four", "got 'four'"),
        ("run quickstart --batch-sizes 2048", "batch_sizes must lie in 1..1024"),
        ("run quickstart --trials 0", "argument --trials: must be a whole number"),
        ("run quickstart --seed x", "argument --seed: must be a whole number"),
        ("run quickstart --optimizer nestrov", "did you mean 'nesterov'?"),
        ("run quickstart --execution fast", "argument --execution: invalid choice: 'fast'"),
        ("run quickstart --speed 9", "unrecognized arguments: --speed 9"),
        ("run", "the following arguments are required: STUDY"),
        ("runn quickstart", "invalid choice: 'runn'"),
        ("list things", "invalid choice: 'things'"),
        ("run range.py", "range low must be below high, got low=1.0 high=0.1"),
        ("run goal.py", "goal direction of classification_error must be 'min', got 'max'"),
        ("run workload.py", "dataset 'digitz' is unknown; did you mean 'digits'?"),
        ("run quickstart --out a_file", "a_file"),
        ("run quickstart --out /proc/nowhere/x", "/proc/nowhere"),
        ("run fashion_mnist_fc --data-dir nowhere", "nowhere"),
        ("run fashion_mnist_search --best-of x", "--best-of has no place in fashion_mnist_search"),
        ("run optimizer_paths --best-of x", "--best-of has no place in optimizer_paths"),
        ("report nowhere", "nowhere holds no record"),
        ("steps-to-result nowhere --csv no/t.csv", "folder no of t.csv does not exist"),
        ("nqm --csv .", "must be a file, and is a folder"),
        ("steps-to-result nowhere", "nowhere holds no record"),
    ],
)
def test_bad_input_is_one_line_exit_2_and_changes_nothing(
    arguments, said, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    tests = str(Path(__file__).parents[1])
    Path("a_file").write_text("not a folder")
    Path("broken.py").write_text("1 / 0\n")
    Path("empty.py").write_text("\n")
    for name, changes in {
        "range": 'space={"learning_rate": {"low": 1.0, "high": 0.1}}',
        "goal": 'goal=__import__("workloads").Goal("classification_error", 0.1, "max")',
        "workload": "workload=__import__('dataclasses').replace(TINY, dataset='digitz')",
    }.items():
        text = STUDY_FILE.format(tests=tests, arguments=changes)
        Path(f"{name}.py").write_text(text.replace("import tiny_study", "import TINY, tiny_study"))
    before = snapshot(tmp_path)
    try:
        code = main(arguments.split())
    except SystemExit as exit_:
        code = exit_.code
    lines = capfd.readouterr().err.splitlines()
    assert code == 2
    assert len(lines) == 1, lines
    assert lines[0].startswith("batchscale: error: ")
    assert said in lines[0]
    after = snapshot(tmp_path)
    assert {p: b for p, b in after.items() if "__pycache__" not in p.parts} == before


def test_a_folder_of_another_study_is_refused_and_unchanged(finished, study_file, capfd):
    before = snapshot(finished)
    path = study_file("step_budget=61")
    assert main(["run", str(path), "--out", str(finished)]) == 2
    said = capfd.readouterr().err
    assert "holds the record of study 'tiny'" in said
    assert "in step_budget: choose another folder" in said
    assert main(["run", str(study_file()), "--out", str(finished), "--no-resume"]) == 2
    assert "already holds a record" in capfd.readouterr().err
    assert snapshot(finished) == before


def test_goals_that_cannot_be_are_refused(finished, capfd):
    assert main(["steps-to-result", str(finished), "--goal", "nan"]) == 2
    assert "goal" in capfd.readouterr().err


def test_steps_to_result_prints_a_table_and_writes_csv(finished, tmp_path, capfd):
    file = tmp_path / "steps.csv"
    assert main(["steps-to-result", str(finished), "--goal", "0.2", "--csv", str(file)]) == 0
    assert "Steps to result" in capfd.readouterr().out
    rows = list(csv.DictReader(file.read_text().splitlines()))
    wanted = [
        "batch_size",
        "steps_to_result",
        "trial",
        "evaluated_before",
        "complete",
        "infeasible",
    ]
    assert list(rows[0])[: len(wanted)] == wanted
    assert [row["batch_size"] for row in rows] == ["8", "64"]
    assert all(int(row["complete"]) == 3 for row in rows)
    assert main(["steps-to-result", str(finished), "--goal", "0.001", "--csv", str(file)]) == 0
    assert [row["steps_to_result"] for row in csv.DictReader(file.read_text().splitlines())] == [
        "",
        "",
    ]


def test_report_is_rebuilt_from_the_records_alone_and_without_jax(finished):
    code = (
        "import sys; from experiments.cli import main; "
        f"assert main(['report', {str(finished)!r}, '--pictures']) == 0; "
        "assert 'jax' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (finished / "report" / "index.html").exists()
    assert "Next: " in done.stdout


@pytest.mark.parametrize("kind", LISTED)
def test_list(kind, capfd):
    assert main(["list", kind]) == 0
    out = capfd.readouterr().out
    expected = {
        "workloads": "digits_fc",
        "optimizers": "nesterov",
        "schedules": "linear",
        "momentum-schedules": "sutskever",
        "batch-size-schedules": "seesaw",
        "clippings": "agc",
        "averagings": "window_mean",
        "rescalings": "half_life",
        "studies": "quickstart",
        "samplers": "rounds",
        "pruners": "hyperband",
    }
    assert expected[kind] in out
    assert out.startswith(f"{kind}:")


def test_help_imports_nothing_that_costs_time():
    code = "import sys; from experiments.cli import build_parser; build_parser().format_help(); "
    code += "print(sorted({'jax', 'numpy', 'polars', 'rich', 'altair'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_optimizer_can_be_changed_and_gets_its_own_folder_and_space(
    tmp_path, monkeypatch, study_file, capfd
):
    monkeypatch.chdir(tmp_path)
    command = ["run", str(study_file()), "--optimizer", "sgd", "--trials", "1"]
    assert main([*command, "--batch-sizes", "64", "--seed", "3"]) == 0
    folder = tmp_path / "runs" / "tiny-sgd"
    assert (folder / "report" / "index.html").exists()
    from experiments.analysis.summary import summarise
    from experiments.records.store import read

    record = read(folder)
    assert list(record.study["study"]["space"]) == ["learning_rate"]
    assert record.study["study"]["source"] == command[1]
    advised = summarise(record).verdict.next
    assert command[1] in advised.command + (advised.file_text or "")
    assert record.study["study"]["command"][0] == command[1]
    assert record.trials["seed"].to_list() == [3]
    assert record.trials["batch_size"].to_list() == [64]


def start(path, folder, **environment):
    """The command in a process of its own."""
    command = [sys.executable, "-m", "experiments", "run", str(path), "--out", str(folder)]
    command += ["--execution", "scan"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


def wait_for(path, seconds=90.0):
    """Until a file exists."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.02)


def test_interrupt_and_second_coordinator(tmp_path, study_file, capfd):
    """Ctrl-C ends cleanly with the command that resumes; meanwhile nobody else may write."""
    folder, path = tmp_path / "long", study_file(FOREVER)
    first = start(path, folder)
    wait_for(folder / "study.json")
    assert main(["run", str(path), "--out", str(folder)]) == 2
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert str(first.pid) in said[0]
    first.send_signal(signal.SIGINT)
    out = first.communicate(timeout=60)[1]
    assert first.returncode == 130
    assert "Traceback" not in out
    assert f"batchscale run {path} --out {folder}" in out


def test_a_full_disk_ends_in_one_line_and_resumes(tmp_path, study_file):
    """A file-size limit stands for a full disk: the next write of a part fails."""
    folder, path = (
        tmp_path / "full",
        study_file("record_norms='every', step_budget=2_000, batch_sizes=(8,)"),
    )
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "from experiments.cli import main; import experiments.runner.study, jax; "
        # What is compiled would not fit either: programs are read from the cache, none is written.
        "jax.config.update('jax_persistent_cache_min_compile_time_secs', 1e9); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, resource.RLIM_INFINITY)); "
        f"sys.exit(main(['run', {str(path)!r}, '--out', {str(folder)!r}, '--execution', 'scan']))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", limited], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert str(folder) in done.stderr
    from experiments.records.store import read

    read(folder)
    run_study(get(str(path)), folder, execution="scan")
    assert read(folder).trials["status"].to_list() == ["COMPLETE"] * 3
