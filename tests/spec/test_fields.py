"""One row a field: everything that lists the fields of a study follows from the rows."""

from __future__ import annotations

import argparse
import dataclasses

import pytest
from support.engine_factory import TINY, tiny_study
from support.records_factory import make_record

from experiments.analysis.question import Question
from experiments.analysis.study_file import study_file
from experiments.analysis.summary import summarise
from experiments.commands.chosen import add_field_options, add_study_arguments, chosen_study
from experiments.report.facts import facts
from experiments.spec import kinds
from experiments.spec.comparison import Comparison
from experiments.spec.fields import (
    COMPARED,
    MAY_CHANGE,
    ROWS,
    STATIC,
    StudyFields,
)
from experiments.spec.parts import PARTS
from experiments.spec.resolved import ResolvedStudy
from experiments.spec.rows import Option, row, rows_of
from experiments.spec.study import Study
from experiments.spec.trial import Precision, Transfer, TrialConfig
from workloads import Goal


@dataclasses.dataclass(frozen=True)
class Shards(StudyFields):
    """A field more, declared once."""

    shards: int = row(
        kinds.Whole(1, 64),
        "how many shards",
        default=1,
        neutral=1,
        unrecorded=True,
        option=Option("shards", "N", "how many shards"),
        shown="Shards",
    )


@dataclasses.dataclass(frozen=True)
class ShardedStudy(Shards, ResolvedStudy):
    """The complete study with the field."""


@dataclasses.dataclass(frozen=True)
class ShardedQuestion(Shards, Question):
    """The question of a record with the field."""


def values_of(study):
    return {field.name: getattr(study, field.name) for field in dataclasses.fields(study)}


def test_a_new_field_is_one_row():
    plain = tiny_study()
    one = ShardedStudy(**values_of(plain))
    four = dataclasses.replace(one, shards=4)
    assert one.describe() == plain.describe() and one.identity("x") == plain.identity("x")
    assert four.describe() == {**plain.describe(), "shards": 4}
    assert four.identity("x") != plain.identity("x")
    assert ShardedStudy.from_description(four.describe()).describe() == four.describe()
    assert list(rows_of(ShardedStudy)) == [*ROWS, "shards"]
    parser = argparse.ArgumentParser()
    add_field_options(parser, rows_of(ShardedStudy))
    assert parser.parse_args(["--shards", "3"]).shards == 3
    summary = summarise(make_record(plain))
    assert "Shards" not in dict(facts(summary))
    summary.view.question = ShardedQuestion(**{**values_of(summary.question), "shards": 4})
    assert dict(facts(summary))["Shards"] == "4"


OTHER = {
    "name": "another", "question": "Why?", "workload": dataclasses.replace(TINY, name="another"),
    "batch_sizes": (8, 64, 128), "step_budget": 61, "example_budget": 513, "optimizer": "momentum",
    "schedule": "linear", "clipping": "agc", "averaging": "ema", "momentum_schedule": "sutskever",
    "batch_size_schedule": "smith", "batch_size_cuts": (128,), "batch_size_factor": 3.0,
    "max_batch_size": 512, "space": {"learning_rate": {"low": 0.1, "high": 0.2}},
    "fixed": {"warmup_steps": 1.0}, "train_steps": {8: 99}, "trials": 4, "seeds": (0, 1),
    "goal": Goal("classification_error", 0.5), "precision": Precision(matmul="high"),
    "evaluation_spacing": 0.5, "train_evaluation_examples": 8, "divergence_factor": 9.0,
    "record_norms": "off", "norms_per_layer": True, "record_noise": True, "noise_per_layer": True,
    "record_curvature": 3,
    "expected": "More.", "source": "", "code": {"mine.py": "0"}, "command": ("quickstart",),
    "sampler": "gp", "expand": False, "stop": "race", "race_factor": 2.0, "full_searches": 2,
    "rule": Transfer("linear", 8), "pruner": "asha", "pruner_resource": 9, "pruner_eta": 2,
    "pruner_rounding": "floor_first", "patience": 4,
}  # fmt: skip
"""A value of every field that is not what `tiny_study` has."""
GROWN = {"batch_size_schedule": "smith", "batch_size_cuts": (256,)}
"""Beside it, for fields that need a batch that grows."""


@pytest.mark.parametrize("name", ROWS)
def test_what_may_change_in_a_folder_is_what_the_identity_does_not_cover(name):
    base = GROWN if name.startswith(("batch_size_", "max_")) else {}
    base = {"pruner": "median"} if name == "patience" else base
    if name == "batch_size_schedule":
        base = {"batch_size_cuts": (256,)}
        plain, other = tiny_study(), tiny_study(**base, **{name: OTHER[name]})
    else:
        plain, other = tiny_study(**base), tiny_study(**{**base, name: OTHER[name]})
    if name == "source":
        other = dataclasses.replace(plain, source="elsewhere.py")
    # A stated length is the question's own, although the table of lengths grows.
    stays = name in MAY_CHANGE and name != "train_steps"
    assert (other.identity("x") == plain.identity("x")) == stays


def test_every_field_is_recorded_read_back_compiled_and_documented():
    study = tiny_study(**GROWN, max_batch_size=512, norms_per_layer=True)
    described = study.describe()
    unrecorded = {name for name, row in ROWS.items() if row.unrecorded}
    assert set(ROWS) - unrecorded <= described.keys() <= {*ROWS, "train_size"}
    assert ResolvedStudy.from_description(described).describe() == described
    assert {field.name for field in dataclasses.fields(TrialConfig)} == {*STATIC, "record_norms"}
    assert set(PARTS) <= set(STATIC)
    for name, found in ROWS.items():
        assert f"{name}: {found.meaning}." in Study.__doc__


def test_every_field_is_in_the_facts_or_said_elsewhere():
    elsewhere = {
        "name", "question", "expected", "batch_sizes", "train_steps", "evaluation_spacing",
        "train_evaluation_examples", "divergence_factor", "record_norms", "source",
        "command", "expand", "race_factor", "full_searches", "pruner_resource", "pruner_eta",
        "pruner_rounding",
    }  # fmt: skip
    assert {name for name, row in ROWS.items() if not row.shown} == elsewhere
    record = make_record(tiny_study(clipping="agc", seeds=(0, 3), code={"mine.py": "f" * 64}))
    shown = dict(facts(summarise(record)))
    assert shown["Clipping"] == "agc" and shown["Seeds"] == "0, 3"
    assert shown["Code"] == "mine.py ffffffffffff"
    assert "Averaging" not in shown  # none


def test_a_missing_field_of_a_record_is_named():
    described = tiny_study().describe()
    for name in ("goal", "space", "step_budget"):
        with pytest.raises(ValueError, match=f"the recorded study has no field {name}"):
            ResolvedStudy.from_description({k: v for k, v in described.items() if k != name})
    for name, damaged in (("goal", 5), ("train_steps", []), ("workload", {}), ("space", "x")):
        with pytest.raises(ValueError, match=name):
            ResolvedStudy.from_description({**described, name: damaged})


def test_options_are_those_of_the_rows():
    parser = argparse.ArgumentParser()
    add_study_arguments(parser)
    flags = {row.option.flag for row in ROWS.values() if row.option}
    help_text = parser.format_help()
    assert all(f"--{flag}" in help_text for flag in flags)
    given = parser.parse_args(["quickstart", "--seed", "3", "--batch-sizes", "8", "16"])
    assert (given.seed, given.batch_sizes, given.trials) == (3, [8, 16], None)


def test_what_studies_must_share_are_the_compared_fields():
    assert {"goal", "trials", "seeds", "batch_sizes"} < set(COMPARED)
    assert not {"optimizer", "space", "name"} & set(COMPARED)
    with pytest.raises(ValueError, match="studies must agree in trials: a has 3, b has 4"):
        Comparison("c", "?", {"a": tiny_study(), "b": tiny_study(trials=4)})
    pair = {"a": tiny_study(), "b": tiny_study(trials=4)}
    assert Comparison("c", "?", pair, differ=("trials",)).changed(step_budget=99).differ
    with pytest.raises(ValueError, match="differ"):
        Comparison("c", "?", pair, differ=("trails",))


HOSTILE = "What's \"this\"\n'''\\ {x} %s \u2028 é?"


def test_the_file_of_a_study_says_the_same_study(tmp_path):
    """For any legal name and value; what the studied record came from is left out."""
    studies = [
        tiny_study(),
        tiny_study(question=HOSTILE, expected=HOSTILE, divergence_factor=float("inf")),
        tiny_study(rule=Transfer("linear+half_life", 8)),
        tiny_study(
            name="quickstart-momentum=0.9,x%",
            workload=dataclasses.replace(TINY, name=HOSTILE),
            goal=Goal("classification_error", 0.1),
            precision=Precision(compute="bfloat16"),
            fixed={"warmup_steps": "5%"},
            seeds=(2**63 - 1,),
            **GROWN,
        ),
    ]
    for study in studies:
        text = study_file(study, HOSTILE)
        found: dict[str, object] = {}
        exec(compile(text, "proposed.py", "exec"), found)  # noqa: S102 (it is what a user runs)
        proposed = found["STUDY"]
        assert isinstance(proposed, Study)
        assert proposed.resolved.describe() == study.describe()


def chosen(*words):
    parser = argparse.ArgumentParser()
    add_study_arguments(parser)
    return chosen_study(parser.parse_args(["quickstart", "--smoke", *words]))


def test_options_of_the_search_change_its_fields_and_are_repeated():
    study = chosen("--seed", "3", "--seeds", "2", "--sampler", "gp", "--no-expand")
    assert (study.seeds, study.sampler, study.expand) == ((3, 4), "gp", False)
    assert "--no-expand" in study.command and "False" not in study.command
    assert chosen("--seeds", "3").seeds == (0, 1, 2)
    assert chosen("--seed", "5").seeds == (5,)
    assert chosen("--stop", "race", "--race-factor", "2.5").race_factor == 2.5
    assert chosen().stop == "race" and chosen("--optimizer", "lbfgs").stop == "never"
    with pytest.raises(ValueError, match=r"--seeds must be at most 10,000, got 10001"):
        chosen("--seeds", "10001")
