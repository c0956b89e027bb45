"""diagnose: the edge of stability of a known model, its verdict, and going on where it was."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import signal

import numpy as np
import polars as pl
import pytest
from support.engine_factory import TINY
from support.kill_storms import server
from support.procedure_child import FACTOR, RATES, TRAIN, killed_diagnosis, quadratic
from support.records_factory import make_record, make_study
from support.tolerances import SIX_DIGITS

from experiments import studies
from experiments.analysis.rate_sweep import Bracket, SweepRun
from experiments.analysis.training_stability import Judged, LossCurve
from experiments.cli import build_parser, main
from experiments.commands import subject
from experiments.procedures import fixes, proposed
from experiments.procedures.budget import Budget, ProcedureCost
from experiments.procedures.diagnose import diagnose
from experiments.procedures.diagnosis import Diagnosis, said_of
from experiments.procedures.fixes import other_optimizer, warmups
from experiments.procedures.procedure import Procedure, Running, is_procedure
from experiments.procedures.rates import Sweep
from experiments.procedures.sweep_options import SweepOptions
from experiments.procedures.variants import base_of, held_study_file, rate_grid
from experiments.records.files import RecordError
from experiments.records.store import read
from experiments.runner.study import run_study
from experiments.spec.errors import StudyError

RITZ = 1e-3
"""Ten Lanczos steps in float32 on 100 eigenvalues 1 / i, whose largest stands apart."""

LOUD: list[str] = []
QUICK = Running(train=TRAIN, say=LOUD.append)
QUESTION = quadratic(record_curvature=25)
SWEPT = SweepOptions(rates=RATES, factor=FACTOR, running=QUICK)


@pytest.fixture(scope="module")
def sgd(tmp_path_factory):
    """SGD at batch size 1, whose noise floor exceeds the first loss below the edge at 2."""
    folder = tmp_path_factory.mktemp("diagnose") / "sgd"
    LOUD.clear()
    outcome = diagnose(QUESTION, folder, SWEPT)
    return outcome, list(LOUD)


def test_the_edge_is_bracketed_within_one_step_of_the_grid(sgd):
    values = sgd[0].values
    assert values["largest_stable_rate"] < 2 <= values["unstable_base_learning_rate"]
    assert values["unstable_base_learning_rate"] == pytest.approx(
        1.5 * values["largest_stable_rate"], rel=2 * SIX_DIGITS
    )
    # A floor of noise is told apart from instability by the same rate at 16 times the batch.
    levels = [run for run in values["runs"] if run["class"] == "no progress"]
    assert levels and not any(run["blows_up"] for run in levels)


def test_the_cost_is_stated_before_anything_is_trained(sgd):
    outcome, said = sgd
    assert said[0].startswith("cost: at most ") and said[1].startswith("pilot")
    assert any(line.startswith("time: at most about") for line in said)
    most = int(said[0].split()[3])
    verdict = json.loads((outcome.folder / "verdict.json").read_text())
    assert 0 < verdict["cost"]["trials"] <= most


def test_the_probe_has_500_steps_at_twice_the_best_rate_and_every_one_evaluated(sgd):
    outcome, _ = sgd
    stage = next(name for name in json.loads((outcome.folder / "verdict.json").read_text())[
        "stages"] if name.endswith("probe"))  # fmt: skip
    record = read(outcome.folder / stage)
    best = outcome.values["best_learning_rate"]
    assert record.trials["learning_rate"].to_list() == [pytest.approx(2 * best)]
    assert record.trials["train_steps"].to_list() == [500]
    steps = record.scan("evaluations").collect()["step"].to_list()
    assert steps == list(range(1, len(steps) + 1))
    assert record.scan("norms").collect()["step"].to_list()[: len(steps)] == steps
    above = [run["learning_rate"] / best for run in outcome.values["above"]]
    assert above == [pytest.approx(5), pytest.approx(10)]


def test_the_same_call_trains_nothing_again_and_another_question_is_refused(sgd):
    outcome, _ = sgd
    before = {p: p.stat().st_mtime_ns for p in outcome.folder.glob("*/records/*.parquet")}
    again = diagnose(QUESTION, outcome.folder, SWEPT)
    assert again.values == outcome.values
    assert before == {p: p.stat().st_mtime_ns for p in outcome.folder.glob("*/records/*.parquet")}
    with pytest.raises(RecordError, match="differs in rates: choose another folder with --out"):
        diagnose(QUESTION, outcome.folder, dataclasses.replace(SWEPT, rates=(0.1, 7.0)))
    with pytest.raises(RecordError, match="holds the procedure 'diagnose', not 'warmup-search'"):
        Procedure("warmup-search", outcome.folder, {})
    assert is_procedure(outcome.folder) and not is_procedure(outcome.folder / "01-pilot")
    with pytest.raises(RecordError, match="holds the record of a study"):
        Procedure("diagnose", outcome.folder / "01-pilot", {})


def test_a_page_with_figures_and_their_numbers_is_written(sgd):
    report = sgd[0].folder / "report"
    page = (report / "index.html").read_text()
    for name in ("value_against_rate", "training_curves", "beside_the_loss"):
        assert f'id="{name}"' in page
        assert (report / "figures" / f"{name}.png").stat().st_size > 5_000
        assert (report / "data" / f"{name}.csv").stat().st_size > 100
    assert "blows up" in page


def test_the_recorded_sharpness_stands_beside_the_rules_own_threshold(sgd):
    """The model's largest eigenvalue is 1, and SGD is unstable above 2 / eta."""
    table = pl.read_csv(sgd[0].folder / "report" / "data" / "beside_the_loss.csv")
    rows = table.drop_nulls("largest")
    rate = sgd[0].values["probe"]["learning_rate"]
    assert len(rows) >= 3
    assert rows["largest"].to_numpy() == pytest.approx(np.ones(len(rows)), rel=RITZ)
    assert rows["threshold"].to_numpy() == pytest.approx(
        np.full(len(rows), 2 / rate), rel=SIX_DIGITS
    )


@pytest.mark.parametrize(
    ("rates", "message"),
    [
        ((4.0, 20.0), r"no rate in \[4, 32\] is stable .* lower the range, as with --rates 0.004"),
        ((0.1, 0.4), r"no rate in \[0.1, 0.4\] blows up: .* raise the range, as with --rates 0.1"),
        ((1e-9, 4e-9), "noisy_quadratic never learns: .* more --steps, or look for a bug"),
    ],
)
def test_a_sweep_that_shows_no_edge_says_what_to_do(tmp_path, rates, message):
    with pytest.raises(StudyError, match=message):
        options = SweepOptions(rates=rates, steps=40, running=QUICK)
        diagnose(quadratic(batch_size=1024), tmp_path / "d", options)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "study or workload 'nothing' is unknown"),
        (["optimizers_digits"], "holds several questions: a procedure takes one study"),
        (["quickstart", "--optimizer", "lbfgs"], "optimizer must take its learning rate as given"),
        (["quickstart", "--rates", "1", "0.1"], "rates must be two positive numbers, low < high"),
        (
            ["quickstart", "--rates", "1e-3", "inf"],
            "rates must be two positive numbers, low < high",
        ),
        (["quickstart", "--rates", "nan", "1"], "within 1e-30 and 1e+06, got nan 1"),
        (["quickstart", "--rates", "-1", "1"], "rates must be two positive numbers, low < high"),
        (["quickstart", "--rates", "0", "1"], "rates must be two positive numbers, low < high"),
        (["quickstart", "--factor", "1"], "factor must exceed 1 and be finite, got 1.0"),
        (["quickstart", "--factor", "inf"], "factor must exceed 1 and be finite, got inf"),
        (
            ["quickstart", "--factor", "1.0001"],
            "factor must leave at most 1,000 rates in [0.0001, ",
        ),
        (["digits_fc", "--smoke"], "--smoke has no place with digits_fc, a workload"),
        (["quickstart", "--budget", "10"], "budget must be a number above 0 of trials, steps"),
        (["quickstart", "--batch-size", "5000"], "batch_sizes must lie in 1..1024"),
        (["digits_fc", "--hold", "momentun=0.9"], "hyperparameter 'momentun' is unknown"),
        (["digits_fc", "--budget", "1trials"], "the budget of 1trials ends before the first stage"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(words, message, tmp_path, capsys):
    out = tmp_path / "d"
    assert main(["diagnose", *words, "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not out.exists()


def test_any_study_or_workload_by_name_or_file_is_a_subject(tmp_path):
    def of(*words):
        return subject.chosen_subject(build_parser().parse_args(["diagnose", *words]))

    assert of("digits_fc", "--batch-size", "32").batch_sizes == (32,)
    adam = of("digits_fc", "--optimizer", "adam", "--hold", "beta1=0.8")
    assert (adam.optimizer, adam.fixed) == ("adam", {"beta1": 0.8})
    assert of("quickstart").name == "quickstart"
    file = tmp_path / "mine.py"
    file.write_text("from workloads.digits_fc import WORKLOAD\n")
    assert of(str(file)).workload.name == "digits_fc"
    deeper = of("digits_fc", "--model", "hidden_sizes=[8, 8]")
    assert deeper.workload.model_options["hidden_sizes"] == [8, 8]
    base = base_of(of("quickstart"))
    assert base.batch_size == 32 and base.study.fixed["momentum"] == 0.9
    assert base_of(of("quickstart"), 4, 77).study.resolved.length(4) == 77


def test_what_a_remedy_and_a_grid_are():
    assert warmups(10_000) == (10, 100, 1000) and warmups(60) == (6,)
    assert [other_optimizer(n) for n in ("sgd", "adam", "adamw", "nesterov")] == [
        "adam", "nesterov", "nesterov", "adam",
    ]  # fmt: skip
    assert rate_grid(0.1, 0.75, 2.0) == (0.1, 0.2, 0.4, 0.8)
    assert Budget.parse("1.5h").check(ProcedureCost(seconds=5000), "x") is None
    assert TINY.name == "digits_tiny"


def test_the_verdict_of_a_procedure_and_of_any_study_is_printed_and_is_data(sgd, capsys, tmp_path):
    outcome, _ = sgd
    assert main(["verdict", str(outcome.folder)]) == 0
    out = capsys.readouterr().out
    assert outcome.said.answer in out and f"Next: {outcome.said.next.command}" in out
    assert main(["verdict", str(outcome.folder), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["procedure"] == "diagnose" and told["values"]["class"] == outcome.values["class"]
    sweep = str(outcome.folder / "02-sweep")
    assert main(["verdict", sweep, "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert not checks["clean"]
    assert all(c["severity"] and c["evidence"] and c["sentence"] for c in checks["checks"])
    assert main(["verdict", sweep]) == 0
    assert checks["checks"][0]["check"].replace("_", " ") in capsys.readouterr().out
    assert main(["verdict", str(tmp_path)]) == 2
    assert "holds no record" in capsys.readouterr().err


def test_interrupted_and_out_of_budget_the_same_call_goes_on_and_ends_alike(tmp_path, sgd):
    """What had finished stays, and the verdict is that of an undisturbed run."""

    @contextlib.contextmanager
    def shown(study):
        def observe(progress):
            if study.name.endswith("sweep") and progress.complete:
                raise KeyboardInterrupt

        yield observe

    def run(running):
        return diagnose(QUESTION, tmp_path / "d", dataclasses.replace(SWEPT, running=running))

    with pytest.raises(KeyboardInterrupt):
        run(Running(train=QUICK.train, shown=shown))
    assert not (tmp_path / "d" / "verdict.json").exists()
    assert main(["verdict", str(tmp_path / "d")]) == 2
    kept = (tmp_path / "d" / "01-pilot" / "records" / "trials-000001.parquet").read_bytes()
    short = run(Running(Budget.parse("1300steps"), QUICK.train))
    assert not short.complete and short.values["probe"] is None
    assert "the budget of 1300steps ends before probe" in short.said.noted[0].text
    assert "larger --budget" in short.said.next.reason
    whole = run(QUICK)
    assert whole.complete and whole.values == sgd[0].values
    assert kept == (tmp_path / "d" / "01-pilot/records/trials-000001.parquet").read_bytes()


def test_killed_with_kill_9_in_its_sweep_the_same_command_ends_as_one_that_was_not(tmp_path, sgd):
    folder = tmp_path / "d"
    child = server().Process(target=killed_diagnosis, args=(folder,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    sweep = read(folder / "02-sweep").trials
    assert 0 < len(sweep) and not (folder / "verdict.json").exists()
    kept = {path: path.read_bytes() for path in (folder / "01-pilot").rglob("*.parquet")}
    whole = diagnose(QUESTION, folder, SWEPT)
    assert whole.complete and whole.values == sgd[0].values
    assert kept and kept == {path: path.read_bytes() for path in kept}
    again = read(folder / "02-sweep").trials
    assert again.join(sweep, on=sweep.columns, how="semi", nulls_equal=True).height == len(sweep)


def test_a_record_of_another_study_where_a_stage_belongs_is_refused(tmp_path):
    study, options = quadratic(batch_size=1024), SweepOptions(rates=(1.0, 3.5), running=QUICK)
    other = base_of(quadratic("momentum", batch_size=1024)).variant("pilot", (1e-9, 2e-9), steps=20)
    run_study(other, tmp_path / "d" / "01-pilot", **QUICK.train)
    with pytest.raises(RecordError, match="differs from study .* in optimizer"):
        diagnose(study, tmp_path / "d", options)


def test_remedies_come_in_the_playbooks_order_and_each_makes_a_study(sgd, tmp_path):
    base = base_of(studies.get("text_transformer", smoke=True))
    assert [*fixes.architectures(base)] == [{"residual_start": "rezero"}]
    post = dataclasses.replace(
        base.study.workload,
        model_options={**base.study.workload.model_options, "placement": "post"},
    )
    base = dataclasses.replace(base, study=dataclasses.replace(base.study, workload=post))
    assert next(fixes.architectures(base)) == {"placement": "pre"}
    runs = [run(0.1, "stable"), run(0.2, "divergence")]
    edge = Bracket(0.1, 0.2)
    found = Sweep(runs, runs[0], edge, {}, 1.0, ())
    listed = fixes.proposals(base, found, "early instability", "text_transformer", tmp_path)
    assert [p.name for p in listed] == [
        "warmup", "clipping", "another optimizer", "architecture", "architecture", "a lower rate",
    ]  # fmt: skip
    later = fixes.proposals(base, found, "mid-training instability", "text_transformer", tmp_path)
    assert later[0].name == "clipping" and listed[3].command.endswith("--model placement=pre")
    for proposal in listed[:-1]:
        build_parser().parse_args(shlex.split(proposal.command)[1:])
    settings = {"warmup_steps": 10, "learning_rate": 0.2}
    for tried in (
        fixes.Tried("warmup", True, "", settings),
        fixes.Tried("clipping", True, "", {"clip_threshold": 1.0, "learning_rate": 0.2}),
        fixes.Tried("another optimizer", True, "", {"optimizer": "adam", "learning_rate": 0.2}),
        fixes.Tried("architecture", True, "", {"placement": "pre", "learning_rate": 0.2}),
    ):
        path = tmp_path / f"{tried.name.replace(' ', '_')}.py"
        path.write_text(held_study_file(base, "It held.", **fixes.changes_of(base, tried)))
        made = studies.get(str(path)).resolved
        kept = {k: v for k, v in tried.settings.items() if k not in ("optimizer", "placement")}
        assert kept.items() <= made.fixed.items()
        assert made.optimizer == tried.settings.get("optimizer", base.study.optimizer)
    assert made.workload.model_options["placement"] == "pre"


def test_proposed_commands_are_what_the_shell_takes_apart_again(tmp_path):
    """A folder and a file with spaces and signs; options that one more would have silenced."""
    base = base_of(dataclasses.replace(QUESTION, optimizer="momentum", fixed={"momentum": 0.5}))
    runs = [run(0.1, "stable"), run(0.2, "divergence")]
    found = Sweep(runs, runs[0], Bracket(0.1, 0.2), {}, 1.0, ())
    typed = [
        "my study; rm *.py",
        "--rates",
        "0.1",
        "0.2",
        "--hold",
        "momentum=0.5",
        "warmup_steps=2 epochs",
        "--steps",
        "9",
    ]
    command = fixes.words(shlex.join(typed), base)
    listed = fixes.proposals(base, found, "early instability", command, tmp_path / "a b")
    words = {p.name: shlex.split(p.command) for p in listed}
    assert words["warmup"] == ["batchscale", "warmup-search", *typed, "--batch-size", "1"]
    assert words["clipping"][:4] == ["batchscale", "clip-threshold", "--study", typed[0]]
    assert words["another optimizer"] == [  # which has no momentum
        "batchscale", "diagnose", typed[0], "--steps", "9", "--batch-size", "1",
        "--hold", "warmup_steps=2 epochs", "--optimizer", "adam",
        "--out", str(tmp_path / "a b-adam"),  # this folder holds this optimizer's diagnosis
    ]  # fmt: skip
    assert words["a lower rate"] == ["batchscale", "run", str(tmp_path / "a b" / "lower_rate.py")]
    # The remedies are tried in the same question's folder: its sweep is not made again.
    swept = dataclasses.replace(found, records=(make_record(make_study((8,))),))
    seen = said_of(Diagnosis(base, swept), shlex.join(typed), "", False, tmp_path / "a b").next
    assert shlex.split(seen.command) == [
        "batchscale", "diagnose", *typed, "--batch-size", "1", "--fix", "--out",
        str(tmp_path / "a b"),
    ]  # fmt: skip
    again = build_parser().parse_args(shlex.split(seen.command)[1:])
    assert subject.words_of(again) == shlex.join(
        [typed[0], "--batch-size", "1", "--steps", "9", *typed[4:7], "--rates", "0.1", "0.2"]
    )
    wider = proposed.with_values("text --model depth=2", "--model", ["depth=2", "placement=pre"])
    assert wider == "text --model depth=2 placement=pre"
    base = base_of(studies.get("text_transformer", smoke=True))
    shown = fixes.proposals(base, found, "early instability", f"{wider} --steps 9", tmp_path)
    (other,) = [p for p in shown if p.name == "architecture"]
    assert other.command == (
        "batchscale diagnose text --steps 9 --model depth=2 placement=pre residual_start=rezero"
    )


def run(rate, kind):
    curve = LossCurve([1, 2], [1.0, 0.5], 1.0, 2)
    return SweepRun((8, 0, 0), rate, curve, Judged(kind, None, ""), 0.5, 2)
