"""No output steers the work: closed pipes, full disks, no terminal, and what comes before what."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shlex
import subprocess
import sys

import pytest
from support.engine_factory import tiny_study

from experiments.cli import main
from experiments.commands.output import Steady
from experiments.records.files import DiskError
from experiments.records.store import read
from experiments.report import figures, write
from experiments.runner.study import run_study

STUDY_FILE = """
import sys
sys.path[:0] = {path!r}
from support.engine_factory import tiny_study
STUDY = tiny_study(trials=1)
"""


@pytest.fixture(autouse=True)
def one_figure(monkeypatch):
    """One is enough here, and quick."""
    monkeypatch.setattr(figures, "FIGURES", figures.FIGURES[:1])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a small finished study."""
    folder = tmp_path_factory.mktemp("output") / "tiny"
    return run_study(tiny_study(trials=1), folder, execution="scan")


@pytest.fixture
def study_file(tmp_path):
    path = tmp_path / "a study.py"
    path.write_text(STUDY_FILE.format(path=sys.path))
    return path


@contextlib.contextmanager
def closed_pipe(monkeypatch):
    """Standard output is a pipe whose reader has gone."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream, monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", stream)
        yield


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_study_whose_reader_has_gone_is_trained_recorded_and_reported(
    tmp_path, study_file, monkeypatch, capfd
):
    folder = tmp_path / "out"
    command = ["run", str(study_file), "--out", str(folder), "--execution", "scan"]
    with closed_pipe(monkeypatch):
        assert main(command) == 0
    assert read(folder).trials["status"].to_list() == ["COMPLETE"] * 2
    page = folder / "report" / "index.html"
    assert page.exists()
    (line,) = capfd.readouterr().err.splitlines()
    assert line == f"batchscale: standard output is closed; report: {page}"


def test_a_report_whose_reader_has_gone_is_written(finished, monkeypatch, capfd):
    (finished / "report" / "index.html").unlink(missing_ok=True)
    with closed_pipe(monkeypatch):
        assert main(["report", str(finished), "--pictures"]) == 0
    assert (finished / "report" / "index.html").exists()
    assert len(capfd.readouterr().err.splitlines()) == 1


def test_a_full_disk_under_standard_output_is_said_and_the_report_written(
    finished, monkeypatch, capsys
):
    (finished / "report" / "index.html").unlink(missing_ok=True)
    monkeypatch.setattr(sys, "stdout", Full())
    assert main(["report", str(finished), "--pictures"]) == 1
    assert (finished / "report" / "index.html").exists()
    said = capsys.readouterr().err.splitlines()[-1]
    assert said == ("batchscale: error: standard output was not written (No space left on device)")


def test_a_process_without_any_output_works(finished, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    assert main(["report", str(finished), "--pictures"]) == 0
    assert main(["report", "nowhere"]) == 2


def test_nobody_is_told_of_a_list_cut_short(monkeypatch, capfd):
    with closed_pipe(monkeypatch):
        assert main(["list", "optimizers"]) == 0
    assert capfd.readouterr().err == ""


def test_a_stream_is_given_up_at_its_first_error():
    stream = Steady(Full())
    assert stream.write("lost") == 4
    assert stream.error is not None and stream.error.errno == errno.ENOSPC
    stream.flush()
    assert not stream.isatty()


@pytest.mark.parametrize(
    "arguments",
    [
        "run quickstart --out /proc/nope",
        "run quickstart --out a_file",
        "run optimizers_digits --out a_file/below",
        "run optimizer_paths --out /proc/nope",
        "run fashion_mnist_fc --data-dir none",
    ],
)
def test_one_line_is_all_that_is_said_of_bad_input(arguments, tmp_path, monkeypatch, capfd):
    from workloads import datasets

    if "data-dir" not in arguments:
        monkeypatch.setattr(datasets, "load", None)  # the folder is looked at first
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a_file").touch()
    assert main(arguments.split()) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith("batchscale: error: ") and err.count("\n") == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["a_file"]


def test_a_disk_that_is_full_while_reporting_names_the_folder_and_what_to_do(finished):
    """A file-size limit stands for the disk; the old report stays."""
    page = write.write_report(finished)
    before = page.read_bytes()
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000)); "
        "from experiments.cli import main; sys.exit(main(['report', sys.argv[1]]))"
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", limited, str(finished)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line == (
        f"batchscale: error: the report in {finished} cannot be written (File too large); the "
        f"record is whole: free some space; then batchscale report {finished} writes it"
    )
    assert page.read_bytes() == before
    assert not list(finished.glob(".report-*"))


def test_a_disk_that_fills_while_recording_ends_with_1_and_the_same_command_goes_on(
    tmp_path, study_file, monkeypatch, capfd
):
    folder, synced, fsync = tmp_path / "o ut", [0], os.fsync

    def full(descriptor):
        synced[0] += 1
        if synced[0] > 8:  # study.json, its plan and the folder are there
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    command = ["run", str(study_file), "--out", str(folder), "--execution", "scan"]
    monkeypatch.setattr(os, "fsync", full)
    assert main(command) == 1
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1
    assert f"the folder {folder} is full (No space left on device): free some space" in said[0]
    monkeypatch.setattr(os, "fsync", fsync)
    assert main(command) == 0
    assert read(folder).trials["status"].to_list() == ["COMPLETE"] * 2


def test_the_command_that_goes_on_is_quoted(tmp_path, study_file, monkeypatch, capfd):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.runner.study.run_study", interrupted)
    folder = tmp_path / "o'ut and more"
    assert main(["run", str(study_file), "--no-resume", "--out", str(folder)]) == 130
    said = capfd.readouterr().err.splitlines()[-1]
    words = shlex.split(said.partition("Go on with: ")[2])
    assert words == ["batchscale", "run", str(study_file), "--out", str(folder)]


# The report's place.


def test_a_reader_finds_the_old_page_or_the_new_one_at_every_moment(tmp_path, monkeypatch):
    folder, replace, pages = tmp_path, os.replace, []

    def build(name):
        def fill(target):
            (target / "data").mkdir()
            (target / "data" / f"{name}.csv").write_text(name)
            (target / "index.html").write_text(name)

        return fill

    write.replace_report(folder, build("old"))

    def watched(source, target):
        pages.append((folder / "report" / "index.html").read_text())
        replace(source, target)
        pages.append((folder / "report" / "index.html").read_text())

    monkeypatch.setattr(os, "replace", watched)
    write.replace_report(folder, build("new"))
    assert pages == ["old", "old", "old", "new"]
    assert [path.name for path in (folder / "report" / "data").iterdir()] == ["new.csv"]


def test_what_a_killed_report_left_behind_is_removed_by_the_next(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    parent = tmp_path / f".report-{os.getppid()}"
    for path in (parent, tmp_path / f".report-{gone.pid}", tmp_path / f".report-{gone.pid}-old"):
        path.mkdir()
    write.replace_report(tmp_path, lambda target: (target / "index.html").touch())
    assert {path.name for path in tmp_path.iterdir()} == {"report", parent.name}


def test_a_report_that_cannot_be_written_is_a_disk_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DiskError, match="the report in .* cannot be written"):
        write.replace_report(tmp_path / "file", lambda target: None)
