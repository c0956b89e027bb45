"""README and docs/: links lead somewhere, commands parse, code runs, numbers are the record's."""

from __future__ import annotations

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from support.tolerances import WHOLE_NUMBERS

from experiments.cli import build_parser
from experiments.records.store import read
from experiments.studies import STUDIES, quickstart
from optimizers import OPTIMIZERS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
RUNNING = ROOT / "docs" / "running.md"
# docs/optimizers.md is generated; tests/leaves/test_optimizers_registry.py holds it current.
WRITTEN = [README, *sorted(set((ROOT / "docs").glob("*.md")) - {ROOT / "docs" / "optimizers.md"})]
PAGES = [*WRITTEN, ROOT / "docs" / "optimizers.md"]

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_FOLDERS = ("workloads", "optimizers", "schedules", "experiments", "tests", "docs", "benchmarks")


def named(path: Path) -> str:
    """A page's path, for test names."""
    return str(path.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """The page's fenced blocks of a language."""
    return [text for kind, text in _BLOCK.findall(page.read_text()) if kind == language]


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return _BLOCK.sub("", page.read_text())


def shown_commands(page: Path, program: str) -> list[str]:
    """Command lines of ``program``: in sh blocks, indented, and in inline code."""
    lines = [line for text in blocks(page, "sh") for line in text.splitlines()]
    lines += [line[4:] for line in prose(page).splitlines() if line.startswith("    ")]
    lines += _INLINE.findall(prose(page))
    return [line.split(" #")[0].strip() for line in lines if line.startswith(f"{program} ")]


def anchors(page: Path) -> set[str]:
    """The names of the page's headings, as links know them."""
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_relative_links_and_images_lead_somewhere(page):
    broken = []
    for link in _LINK.findall(prose(page)):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", WRITTEN, ids=named)
def test_paths_named_in_the_text_exist(page):
    spans = [text for text in _INLINE.findall(prose(page)) if re.fullmatch(r"[\w./]+", text)]
    paths = [text for text in spans if text.split("/")[0] in _FOLDERS and "/" in text]
    assert [text for text in paths if not (ROOT / text).exists()] == []


@pytest.mark.parametrize("page", WRITTEN, ids=named)
def test_every_command_shown_parses(page):
    parser = build_parser()
    for line in shown_commands(page, "batchscale"):
        options = parser.parse_args(shlex.split(line)[1:])  # exits, and so fails, where it is wrong
        study = getattr(options, "study", "a.py")
        assert study.endswith(".py") or study in {*STUDIES, "STUDY"}, line


def block_with(beginning: str) -> str:
    """The one block of text in README and docs/ that begins so."""
    (text,) = (
        text for page in WRITTEN for text in blocks(page, "text") if text.startswith(beginning)
    )
    return text


def test_the_page_on_running_shows_every_command_and_pages_only_existing_targets():
    shown = {shlex.split(line)[1] for line in shown_commands(RUNNING, "batchscale")}
    (commands,) = (action.choices for action in build_parser()._actions if action.choices)
    assert set(commands) - shown == set(), "show these in docs/running.md"
    makefile = (ROOT / "Makefile").read_text()
    for page in WRITTEN:
        for line in shown_commands(page, "make"):
            assert re.search(rf"^{line.split()[1]}:", makefile, re.MULTILINE), line


def test_the_page_on_running_names_every_option_of_run():
    run = build_parser().parse_args(["run", "quickstart"])
    options = {f"--{name.replace('_', '-')}" for name in vars(run)}
    options -= {"--command", "--function", "--study", "--traceback"}
    assert {option for option in options if option not in RUNNING.read_text()} == set()


def test_the_rooms_that_are_listed_exist():
    """Indentation is the folder; names come before two spaces."""
    text = block_with("workloads/")
    folder, missing, seen = Path(), [], set()
    for line in text.splitlines():
        names = re.split(r"\s{2,}", line.strip())[0].split()
        if not line.startswith(" "):
            folder = ROOT / names[0]
        paths = [folder / name if line.startswith(" ") else folder for name in names]
        missing += [str(path) for path in paths if not path.exists()]
        seen |= {path.relative_to(ROOT).parts[0] for path in paths}
    assert missing == []
    assert set(_FOLDERS) <= seen


def test_the_table_that_is_shown_is_the_figures():
    """Table, figure and CSV come from one run: the CSV is the report's, beside its figure."""
    text = block_with(" batch")
    shown = [line.split() for line in text.splitlines() if re.match(r" +\d", line)]
    table = (ROOT / "docs" / "images" / "steps_to_result.csv").read_text()
    searches: dict[str, list[dict[str, str]]] = {}
    for row in csv.DictReader(table.splitlines()):
        searches.setdefault(row["batch_size"], []).append(row)
    assert [cells[0] for cells in shown] == list(searches)
    for cells, rows in zip(shown, searches.values(), strict=True):
        steps = float(cells[1].replace(",", ""))
        assert steps == pytest.approx(float(rows[0]["across_median"]), abs=WHOLE_NUMBERS)
        missing, infeasible = (
            sum(int(row[name]) for row in rows) for name in ("missing", "infeasible")
        )
        wanted = quickstart.STUDY.trials * len(quickstart.STUDY.seeds)
        assert cells[-2:] == [str(wanted - missing), str(infeasible)]
        assert rows[0]["across_regime"].startswith(cells[-3].removesuffix("?"))


def python(*arguments: str, cwd: Path) -> str:
    """What an interpreter of its own prints, in ``cwd``."""
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_python_of_readme_and_record_runs(tmp_path):
    """Their blocks, one after another, as a reader would paste them."""
    pages = [page for page in (README, ROOT / "docs" / "record.md") if page.exists()]
    code = "\n".join(text for page in pages for text in blocks(page, "python"))
    printed = python("-c", code, cwd=tmp_path)
    folder = tmp_path / "runs" / "quickstart-smoke"
    assert str(Path("runs/quickstart-smoke/report/index.html")) in printed
    assert (folder / "report" / "index.html").stat().st_size > 100_000
    figures = {path.stem for path in (folder / "report" / "figures").glob("*.png")}
    explained = (ROOT / "docs" / "reading_the_report.md").read_text()
    assert figures == set(re.findall(r"^\| `(\w+)` \|", explained, re.MULTILINE))
    record = read(folder)
    complete = record.trials.filter(status="COMPLETE")
    rows = record.evaluations.join(complete, on=["batch_size", "seed", "trial"], how="semi")
    # polars prints the shape of what the raw Parquet parts gave.
    assert f"shape: ({len(rows):,}" in printed.replace("_", ",")


def saved(page: str, folder: Path) -> Path:
    """The page's first block of code, under the name the page gives it."""
    path = ROOT / "docs" / page
    name = re.search(r"Save this as `(\w+\.py)`", path.read_text())
    assert name is not None
    (folder / name[1]).write_text(blocks(path, "python")[0])
    return folder / name[1]


@pytest.mark.slow
def test_the_workload_of_the_page_runs(tmp_path):
    """With the very command a reader types, report included."""
    file = saved("add_a_workload.md", tmp_path)
    printed = python("-m", "experiments", "run", file.name, "--smoke", cwd=tmp_path)
    assert "Steps to result" in printed
    assert (tmp_path / "runs" / "spirals-smoke" / "report" / "index.html").exists()
    check_finished(tmp_path / "runs" / "spirals-smoke")


@pytest.mark.slow
@pytest.mark.parametrize("page", ["add_an_optimizer.md", "add_a_study.md"])
def test_the_study_of_the_page_runs(page, tmp_path):
    file = saved(page, tmp_path)
    code = "from experiments.runner.study import run_study; from experiments.studies import get; "
    code += f"run_study(get({file.name!r}, smoke=True), 'out')"
    python("-c", code, cwd=tmp_path)
    check_finished(tmp_path / "out")


def check_finished(folder: Path) -> None:
    """All trials are there, and training learned something."""
    record = read(folder)
    study = record.study["study"]
    assert set(record.trials["status"]) <= {"COMPLETE", "INFEASIBLE"}
    complete = record.trials.filter(status="COMPLETE")
    assert len(complete) == study["trials"] * len(study["batch_sizes"]) * len(study["seeds"])
    # It learns: the best trial ends well below chance.
    chance = 1 - 1 / record.study["dataset"]["classes"]
    assert record.evaluations["validation/classification_error"].min() < chance / 2


def test_the_default_search_spaces_of_the_page_on_running_are_those_of_the_rules():
    """Fewer hyperparameters first, more with the budget of trials."""
    rows = [line.split("|")[1:-1] for line in RUNNING.read_text().splitlines()]
    head = next(i for i, cells in enumerate(rows) if cells and cells[0].strip() == "trials")
    names = [re.findall(r"\w+", cell) for cell in rows[head][1:]]
    shown: list[set[str]] = [set() for _ in names]
    for cells in rows[head + 2 : head + 6]:
        trials = int(re.findall(r"\d+", cells[0])[0]) - ("below" in cells[0])
        for place, cell in enumerate(cells[1:]):
            shown[place] |= set(re.findall(r"`(\w+)`", cell))
            for name in names[place]:
                assert OPTIMIZERS[name].spaces(trials).keys() == shown[place], (name, trials)


@pytest.mark.slow
def test_the_searches_of_the_page_run(tmp_path):
    code = "\n".join(blocks(ROOT / "docs" / "search.md", "python"))
    printed = python("-c", code, cwd=tmp_path)
    assert "  0:    9 trials: 9 @ 1, 3 @ 3, 1 @ 10" in printed
    for name in ("search", "objective"):
        assert len(read(tmp_path / "runs" / name).trials) == 17


@pytest.mark.slow
def test_the_automl_of_the_page_runs(tmp_path):
    """As it is written, but with a budget of five trials."""
    (code,) = blocks(ROOT / "docs" / "automl.md", "python")
    assert code.count("\n") <= 20 + 2  # lines, and the blank ones that group imports
    printed = python("-c", code.replace("1min", "5trials"), cwd=tmp_path)
    assert "Test error" in printed and "scikit-learn's defaults: LogisticRegression" in printed
    assert "class_0" in printed
    assert (tmp_path / "runs" / "automl-wine" / "report" / "index.html").exists()


@pytest.mark.slow
def test_the_architecture_search_of_the_page_runs(tmp_path):
    code, _ = blocks(ROOT / "docs" / "architecture_search.md", "python")
    assert code.count("\n") <= 20
    printed = python("-c", code, cwd=tmp_path)
    assert "output = " in printed
    folder = tmp_path / "runs" / "architectures"
    assert len(read(folder).trials) == 12
    assert (folder / "report" / "figures" / "architecture.png").exists()


def test_a_study_that_changes_another_file_is_read(tmp_path):
    """The second block of add_a_study.md, beside the first."""
    file = saved("add_a_study.md", tmp_path)
    code = blocks(ROOT / "docs" / "add_a_study.md", "python")[1]
    (tmp_path / "decay_wider.py").write_text(code)
    printed = python(
        "-c",
        "from experiments.studies import get; study = get('decay_wider.py'); "
        "print(study.name, study.space['learning_rate'].high, study.space['momentum'].high)",
        cwd=tmp_path,
    )
    assert file.exists()
    assert printed.split() == ["decay_wider", "30.0", "0.999"]


def test_the_ratios_of_the_engine_are_those_that_were_measured():
    measured = json.loads((ROOT / "benchmarks" / "results" / "study_speed.json").read_text())
    rows = {f"{row['batch_size']:d}": row for row in measured["rows"]}
    rows["whole study"] = measured["total"]
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    table = page[page.index("| batch size | Python loop") :].split("\n\n")[0].splitlines()[2:]
    told = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    assert told == [
        [name, f"{rows[name]['b_over_a']:.1f}", f"{rows[name]['c_over_a']:.0f}"]
        for name, *_ in told
    ]
    assert told[-1][0] == "whole study"
    assert f"on both cores, {measured['total']['engine_seconds']:.0f} s" in page
