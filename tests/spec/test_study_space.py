"""The question: spaces, the evaluation grid, validation at construction, identities."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.engine_factory import TINY, tiny_study
from support.records_factory import make_record
from support.tolerances import FLOAT64_SUMS

from experiments.analysis.summary import summarise
from experiments.report.facts import facts
from experiments.spec.fields import named
from experiments.spec.resolved import IDENTITY_VERSION, ResolvedStudy
from experiments.spec.space import Choice, Integer, Real, ZeroOrLog, from_json, to_json
from experiments.spec.trial import Precision, evaluation_steps
from workloads import Goal

ONE_POINT = 2e-4
"""Of 8,000 or 10,000 equally spaced points one may fall on either side of an edge."""

UNIT = st.floats(0.0, 1.0)
SPACES = [
    Real(-3.0, 5.0),
    Real(1e-5, 10.0, "log"),
    Real(0.5, 0.9999, "reverse_log"),
    Integer(1, 7),
    Integer(1, 1000, "log"),
    ZeroOrLog(1e-4, 1.0),
    Choice((0.0, 0.01, 0.1)),
]


@pytest.mark.parametrize("space", SPACES, ids=str)
@given(unit=UNIT)
def test_values_stay_in_range_and_positions_invert_them(space, unit):
    value = space.value(unit)
    if isinstance(space, Choice):
        assert value in space.values
        assert space.value(space.position(value)) == value
        return
    if value == 0 and isinstance(space, ZeroOrLog):
        assert unit < space.zero_share and space.value(space.position(0.0)) == 0
        return
    assert space.low <= value <= space.high
    if isinstance(space, Integer):
        assert value == int(value)
        assert space.value(space.position(value)) == value
    else:
        assert space.position(value) == pytest.approx(unit, abs=FLOAT64_SUMS)


def test_scales_are_uniform_where_their_names_say():
    units = (np.arange(10_000) + 0.5) / 10_000
    log = [Real(1e-4, 1.0, "log").value(u) for u in units]
    assert np.mean(np.array(log) < 1e-2) == pytest.approx(0.5, abs=ONE_POINT)
    reverse = 1 - np.array([Real(0.9, 0.9999, "reverse_log").value(u) for u in units])
    # 1 - value is log-uniform: a third of it lies in each decade.
    assert np.mean(reverse < 1e-3) == pytest.approx(1 / 3, abs=ONE_POINT)
    either = np.array([ZeroOrLog(1e-4, 1.0, 0.2).value(u) for u in units])
    assert np.mean(either == 0) == pytest.approx(0.2, abs=ONE_POINT)
    assert np.mean(either[either > 0] < 1e-2) == pytest.approx(0.5, abs=ONE_POINT)
    counts = np.bincount([Integer(2, 5).value(u) for u in units], minlength=6)
    assert counts[2:].tolist() == [2500] * 4


@pytest.mark.parametrize("space", SPACES, ids=str)
def test_plain_data_round_trip(space):
    assert from_json(to_json(space)) == space


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"low": 1.0, "high": 1.0}, "low must be below high, got low=1.0 high=1.0"),
        ({"low": 2.0, "high": 1.0}, "low must be below high"),
        ({"low": 0.0, "high": 1.0, "scale": "log"}, "low must be above 0 on a log scale, got 0.0"),
        ({"low": 0.5, "high": 1.0, "scale": "reverse_log"}, "high must be below 1"),
        ({"low": 0.0, "high": math.inf}, "high must be a finite number, got inf"),
        ({"low": 0.0, "high": 1.0, "scale": "cubic"}, "scale must be one of linear, log"),
        ({"low": 0.0, "hihg": 1.0}, "'hihg' is unknown; did you mean 'high'"),
        ({"type": "reel", "low": 0.0, "high": 1.0}, "'reel' is unknown; did you mean 'real'"),
        ({"type": "choice", "values": []}, "choice values must be distinct, at least one"),
        (
            {"type": "integer", "low": 0.5, "high": 3},
            "low must be a whole number up to 2^53, got",
        ),
        ({"type": "integer", "low": 1, "high": 2**80}, "high must be a whole number up to 2^53"),
        ({"low": 0, "high": 10**400}, "range high must be a finite number, got 1000"),
        ({"type": "choice", "values": [math.nan]}, "choice values must be finite numbers, strings"),
        ({"low": 0.0}, "a real range needs high, low, scale"),
        ({"low": True, "high": 2.0}, "low must be a finite number, got True"),
        ({"type": "integer", "low": 3, "high": 3}, "low must be below high, got low=3 high=3"),
        ({"type": "integer", "low": 4, "high": 3}, "low must be below high, got low=4 high=3"),
        ({"type": "zero_or_log", "low": 0.1, "high": 0.1}, "low must be below high"),
        ({"type": "zero_or_log", "low": 0.0, "high": 1.0}, "low must be above 0 on a log scale"),
        ({"type": "zero_or_log", "low": 0.1, "high": 1.0, "zero_share": 1.0}, "in (0, 1), got 1.0"),
        ({"type": "choice", "values": 5}, "choice values must be finite numbers, strings"),
        (5, "a range must be a mapping or a range type, got 5"),
    ],
)
def test_a_bad_range_is_refused_in_one_line(data, message):
    with pytest.raises(ValueError, match="range|choice") as caught:
        from_json(data)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.integers(1, 200_000), st.sampled_from([0.05, 0.25, 1.0]))
def test_evaluation_grid(train_steps, spacing):
    grid = evaluation_steps(train_steps, spacing)
    assert grid[-1] == train_steps
    assert grid[0] == 1
    gaps = np.diff(grid)
    assert (gaps >= 1).all()
    # Every step at first, then at most the stated share apart.
    assert all(gap == 1 or gap <= spacing * at + 1e-6 for at, gap in zip(grid, gaps, strict=False))
    # A function of the step alone: a longer trial shares every point but the last.
    longer = evaluation_steps(2 * train_steps, spacing)
    assert set(grid[:-1]) <= set(longer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_sizes": (0, 8)}, "batch_sizes must be a whole number of at least 1, got 0"),
        ({"batch_sizes": (8, -2)}, "got -2"),
        ({"batch_sizes": (2.5,)}, "got 2.5"),
        (
            {"batch_sizes": (8, 2048)},
            "batch_sizes must lie in 1..1024 (the training set of digits)",
        ),
        ({"batch_sizes": ()}, "at least one batch size"),
        ({"trials": 0}, "trials must be a whole number of at least 1, got 0"),
        ({"seeds": (-1,)}, "seeds must be a whole number of at least 0, got -1"),
        ({"step_budget": 0}, "step_budget must be"),
        ({"train_steps": {8: 10}}, "train_steps of batch size 8 must be at least 64"),
        ({"optimizer": "nestorov"}, "did you mean 'nesterov'"),
        ({"schedule": "lineer"}, "did you mean 'linear'"),
        ({"space": {"learning_rat": {"low": 0.1, "high": 1.0}}}, "did you mean 'learning_rate'"),
        ({"fixed": {"momentun": 0.9}}, "did you mean 'momentum'"),
        ({"space": {"learning_rate": {"low": -1.0, "high": 1.0}}}, "learning_rate must lie in (0"),
        ({"space": {"momentum": {"low": 0.5, "high": 0.9}}}, "learning_rate must be searched"),
        ({"space": {"learning_rate": {"low": 1.0, "high": 0.1}}}, "low must be below high"),
        (
            {
                "space": {"learning_rate": {"low": 0.1, "high": 1.0}},
                "fixed": {"learning_rate": 1.0},
            },
            "learning_rate is both searched and fixed",
        ),
        ({"goal": Goal("classification_error", 0.1, "max")}, "direction of classification_error"),
        ({"evaluation_spacing": 0.0}, "evaluation_spacing must lie in (0, 1]"),
        ({"divergence_factor": 1.0}, "divergence_factor must exceed 1"),
        ({"record_norms": "sometimes"}, "record_norms must be auto, every"),
        ({"workload": dataclasses.replace(TINY, dataset="digit")}, "did you mean 'digits'"),
    ],
)
def test_a_bad_study_is_refused_at_construction_in_one_line(changes, message):
    with pytest.raises(ValueError, match=".") as caught:
        tiny_study(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["parameters", "compute", "matmul"])
def test_a_bad_precision_is_refused(field):
    with pytest.raises(ValueError, match=f"precision {field} must be .*, got 'float12'"):
        Precision(**{field: "float12"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("error", math.nan), "finite number, got nan"),
        (("error", 0.1, "down"), "'min' or 'max', got 'down'"),
        (("error", 0.1, "min", "test"), "'validation' or 'train', got 'test'"),
    ],
)
def test_a_bad_goal_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Goal(*arguments)


def test_length_is_what_both_budgets_need_unless_stated():
    study = tiny_study(step_budget=60, example_budget=1000, train_steps={64: 99})
    assert study.length(8) == 125  # 1000 / 8
    assert study.length(64) == 99
    assert tiny_study(step_budget=60, example_budget=1000).length(64) == 60


def test_identity_covers_the_question_and_not_what_may_grow():
    study = tiny_study()
    same = [{"trials": 9}, {"seeds": (0, 4)}, {"batch_sizes": (4, 8, 64)}, {"question": "?"}]
    for changes in same:
        assert dataclasses.replace(study, **changes).identity("x") == study.identity("x")
    other = [
        {"optimizer": "momentum"},
        {"fixed": {"momentum": 0.8}, "space": {"learning_rate": study.space["learning_rate"]}},
        {"step_budget": 61},
        {"schedule": "linear"},
        {"precision": Precision(matmul="default")},
        {"evaluation_spacing": 0.1},
    ]
    for changes in other:
        assert dataclasses.replace(study, **changes).identity("x") != study.identity("x"), changes
    assert study.identity("y") != study.identity("x")


@pytest.mark.parametrize(
    ("changes", "identity"),
    [
        ({}, "bdbc954b4c0df2351638527469bf7dcf"),
        (
            {"schedule": "cosine", "clipping": "agc", "optimizer": "adam"},
            "961b1253cf43ec1cd4f6f63f9e897c46",
        ),
        ({"norms_per_layer": True, "seeds": (7,)}, "11ad5ee0a84e2238c292d24a28cc659c"),
        (
            {"batch_size_schedule": "smith", "batch_size_cuts": (256,), "train_steps": {8: 99}},
            "1de19fa3759249e36946ef12d114369e",
        ),
    ],
)
def test_identities_of_recorded_studies_stay(changes, identity):
    """Frozen. Another value strands every record there is: raise IDENTITY_VERSION, and say why."""
    assert IDENTITY_VERSION == 2
    assert tiny_study(**changes).identity("x") == identity


def test_a_neutral_choice_leaves_the_identity_of_older_studies_alone():
    for name in named(neutral="none") + named(neutral="constant"):
        assert name not in tiny_study()._asked
    assert tiny_study(averaging="window_mean").identity("x") != tiny_study().identity("x")


def test_a_trial_is_its_point_and_its_defaults():
    study = tiny_study(schedule="linear", fixed={"decay_steps_factor": 0.5})
    trial = study.trial(8, 0, 3, dict.fromkeys(study.space, 0.5), "x")
    assert set(trial.hyperparameters) >= {"learning_rate", "momentum", "end_learning_rate_factor"}
    assert trial.hyperparameters["decay_steps_factor"] == 0.5
    assert trial.train_steps == study.length(8)
    again = study.trial(8, 0, 3, dict.fromkeys(study.space, 0.5), "x")
    assert again.identity == trial.identity
    assert study.trial(8, 1, 3, dict.fromkeys(study.space, 0.5), "x").identity != trial.identity


def test_a_study_survives_replace():
    study = tiny_study(trials=5)
    assert isinstance(dataclasses.replace(study, trials=6), ResolvedStudy)
    assert dataclasses.replace(study, trials=5).describe() == study.describe()


def test_a_weight_decay_may_be_searched_as_zero_or_on_a_log_scale():
    """Zero must be legal too; an optimum at zero is not one at an edge."""
    decay = {"type": "zero_or_log", "low": 1e-4, "high": 1.0}
    study = tiny_study(
        optimizer="adamw",
        space={"learning_rate": {"low": 1e-3, "high": 1.0, "scale": "log"}, "weight_decay": decay},
    )
    values = [
        study.trial(8, 0, 0, {"learning_rate": 0.5, "weight_decay": unit}, "").hyperparameters
        for unit in (0.0, 0.49, 0.5, 1.0)
    ]
    assert [found["weight_decay"] for found in values] == pytest.approx([0.0, 0.0, 1e-4, 1.0])
    assert study.describe()["space"]["weight_decay"] == {**decay, "zero_share": 0.5}
    assert dict(facts(summarise(make_record(study))))["Search space"].endswith(
        "weight decay 0 or [0.0001, 1] log"
    )
    with pytest.raises(ValueError, match=r"learning_rate must lie in \(0, 1e\+06\], got 0.0"):
        tiny_study(space={"learning_rate": {"type": "zero_or_log", "low": 0.1, "high": 1.0}})
