"""The final value against the rate of a comparison whose members sweep it."""

from __future__ import annotations

import pytest
from support.records_factory import make_record, make_study

from experiments.analysis.compare import compared_of
from experiments.analysis.rates_compared import swept
from experiments.analysis.summary import summarise
from experiments.report.rates_compared import SHAKEN, STABLE, rate_figures, rate_table
from experiments.spec.space import Choice, Real

RATES = (0.02, 0.05, 0.1, 0.2, 0.5)


def of(space, batch_sizes=(64,)):
    """A comparison of two members with one record's numbers."""
    study = make_study(batch_sizes, trials=5, seeds=(0, 1), space=space, sampler="grid")
    record = make_record(study)
    members = {label: summarise(record) for label in ("one", "other")}
    return record, compared_of(members, "both", "Which reaches further?")


@pytest.fixture(scope="module")
def sweeps():
    return of({"learning_rate": Choice(RATES)})


def test_a_line_a_member_of_the_medians_of_its_seeds(sweeps):
    record, compared = sweeps
    (figure,) = rate_figures(compared)
    assert figure.name == "value_against_rate"
    assert figure.table["label"].unique().sort().to_list() == ["one", "other"]
    own = figure.table.filter(label="other")
    rates = sorted(record.trials["learning_rate"].unique())
    assert own["rate"].to_list() == rates
    found = swept(record)
    for row in own.iter_rows(named=True):
        kinds = found.table.filter(rate=row["rate"])["kind"].to_list()
        shaken = any("instability" in kind or kind == "divergence" for kind in kinds)
        assert row["state"] == (SHAKEN if shaken else STABLE)
    drawn = figure.chart.to_dict()
    assert "final validation classification error" in str(drawn)


def test_its_table_names_every_rate_and_class(sweeps):
    record, compared = sweeps
    table = rate_table(compared)
    rates = len(record.trials["learning_rate"].unique())
    assert len(table.rows) == 2 * rates
    assert {row[0] for row in table.rows} == {"one", "other"}
    assert all(len(row) == len(table.columns) for row in table.rows)


SEARCHED = Real(0.01, 1.0, "log")


@pytest.mark.parametrize(
    ("rates", "batch_sizes"), [(SEARCHED, (64,)), (Choice(RATES), (16, 64))], ids=["search", "two"]
)
def test_a_search_or_several_batch_sizes_have_no_such_figure(rates, batch_sizes):
    _, compared = of({"learning_rate": rates}, batch_sizes)
    assert rate_figures(compared) == [] and rate_table(compared) is None
