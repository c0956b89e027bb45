"""The verdict: each check fires where it should, and only there."""

import dataclasses
import math

import numpy as np
import polars as pl
import pytest
from support.records_factory import Truth, handmade, make_record, make_study

from experiments import studies
from experiments.analysis.curve_findings import UnequalTuning
from experiments.analysis.findings import (
    BestStep,
    EdgeOptimum,
    Inconclusive,
    MostlyInfeasible,
    NonMonotone,
    OneSearch,
    Shortfall,
    Unreached,
    UntunedSmallest,
)
from experiments.analysis.next_step import next_step
from experiments.analysis.question import read_question
from experiments.analysis.status import study_status
from experiments.analysis.summary import summarise
from experiments.analysis.verdict import non_monotone, untuned_smallest
from experiments.cli import build_parser
from experiments.commands.chosen import chosen_study
from experiments.spec.space import Integer, Real, ZeroOrLog
from experiments.spec.study import resolve

DONE, DIVERGED = "COMPLETE", "INFEASIBLE"


def conclusive(verdict):
    """Findings but those that such small records cannot tell anything (test_inconclusive.py)."""
    return [found for found in verdict.findings if not isinstance(found, Inconclusive)]


def findings_of(record, kind):
    return [found for found in summarise(record).verdict.findings if isinstance(found, kind)]


def with_rate(rate, space, momentum=0.9):
    fixed = {} if "learning_rate" in space else {"learning_rate": rate}
    record = handmade({8: [(DONE, {100: 0.05})]}, trials=1, space=space, fixed=fixed)
    columns = {"learning_rate": pl.lit(rate), "momentum": pl.lit(momentum)}
    return dataclasses.replace(record, trials=record.trials.with_columns(**columns))


LOG = {"learning_rate": Real(1e-3, 10.0, "log")}


@pytest.mark.parametrize(
    ("rate", "end", "proposed"),
    [
        (1e-3 * 1e4**0.049, "lower", (1e-5, 10.0)),
        (1e-3 * 1e4**0.051, None, None),
        (1e-3 * 1e4**0.949, None, None),
        (1e-3 * 1e4**0.951, "upper", (1e-3, 1000.0)),
    ],
)
def test_an_optimum_within_five_percent_of_an_end_on_the_log_scale(rate, end, proposed):
    found = findings_of(with_rate(rate, LOG), EdgeOptimum)
    if end is None:
        assert found == []
        return
    (edge,) = found
    assert (edge.end, edge.batch_sizes) == (end, (8,))
    assert edge.proposed == pytest.approx(proposed)
    assert "learning_rate" in edge.sentence and f"{end} end" in edge.sentence


def test_a_reverse_log_range_is_widened_in_one_minus_value_and_kept_legal():
    space = {"momentum": Real(0.9, 0.999, "reverse_log")}
    (edge,) = findings_of(with_rate(0.1, space, 0.9985 + 0.0004), EdgeOptimum)
    assert edge.proposed == pytest.approx((0.9, 0.9999))
    (edge,) = findings_of(
        with_rate(0.1, {"momentum": Real(0.5, 0.999, "reverse_log")}, 0.5), EdgeOptimum
    )
    assert edge.proposed == pytest.approx((0.0, 0.999))
    (edge,) = findings_of(with_rate(0.1, {"momentum": Real(0.0, 0.9)}, 0.0), EdgeOptimum)
    assert edge.proposed is None and "legal limit" in edge.sentence


def test_whole_numbers_are_widened_to_whole_numbers():
    record = with_rate(10.0, {"learning_rate": Integer(1, 10, "log")})
    (edge,) = findings_of(record, EdgeOptimum)
    assert edge.proposed == (1.0, 32.0)


def test_a_range_that_holds_zero_has_an_edge_at_its_upper_end_alone():
    space = {"momentum": ZeroOrLog(0.01, 0.9)}
    for momentum in (0.0, 0.01):
        assert findings_of(with_rate(0.1, space, momentum), EdgeOptimum) == []
    (edge,) = findings_of(with_rate(0.1, space, 0.9), EdgeOptimum)
    assert edge.end == "upper"


def test_the_next_command_for_an_edge_names_the_wider_range():
    verdict = summarise(with_rate(9.9, LOG)).verdict
    assert verdict.next.command == "batchscale run synthetic_wider.py"
    assert verdict.next.file_name == "synthetic_wider.py"
    assert "Real(low=0.001, high=1000.0, scale='log')" in verdict.next.file_text


def test_a_search_mostly_diverged_is_named_with_its_share():
    rows = [(DIVERGED, {})] * 3 + [(DONE, {100: 0.05})] * 2
    (found,) = findings_of(handmade({8: rows, 16: rows[2:]}, trials=2), MostlyInfeasible)
    assert found.batch_sizes == (8,) and found.shares == (0.6,)
    assert findings_of(handmade({8: rows[1:]}, trials=2), MostlyInfeasible) == []


HALVING = {"pruner": "successive_halving", "pruner_resource": 27, "sampler": "halton"}
AHEAD, BEHIND = (DONE, {100: 0.05}), ("STOPPED", {50: 0.5})


@pytest.mark.parametrize("early", [HALVING, {"stop": "race"}, {"stop": "goal"}])
def test_the_share_that_diverged_is_of_all_trials_that_ended(early):
    """3 of 24 is an eighth, also where only 2 of the others trained to their end."""
    rows = [AHEAD] * 2 + [BEHIND] * 19 + [(DIVERGED, {})] * 3
    assert findings_of(handmade({8: rows}, trials=24, **early), MostlyInfeasible) == []
    rows = rows[:11] + [(DIVERGED, {})] * 13
    (found,) = findings_of(handmade({8: rows}, trials=24, **early), MostlyInfeasible)
    assert found.shares == (13 / 24,)


def test_a_shortfall_counts_what_counts_where_trials_stop_early():
    past = (DIVERGED, {50: 0.05, 60: 9.0})
    rows = [AHEAD] * 2 + [BEHIND] * 20 + [past, (DIVERGED, {50: 0.5})]
    (found,) = findings_of(handmade({8: rows}, trials=24, stop="race"), Shortfall)
    assert (found.counted, found.planned) == ((23,), 24)
    assert "Only 23 of the planned 24 trials that count" in found.sentence
    brackets = {**HALVING, "pruner": "hyperband", "pruner_resource": 9}
    (found,) = findings_of(handmade({8: rows[:13]}, trials=16, **brackets), Shortfall)
    assert (found.counted, found.planned) == ((13,), 14)  # of whole brackets, 9 and 5


def test_tuning_is_unequal_only_where_fewer_trials_count():
    """A trial that diverged past the goal counts, as does one that a pruner started."""
    past = (DIVERGED, {50: 0.05, 60: 9.0})
    stopped = {8: [AHEAD] * 8, 16: [AHEAD] * 4 + [past] * 4}
    assert findings_of(handmade(stopped, trials=8, stop="goal"), UnequalTuning) == []
    pruned = {8: [AHEAD] + [BEHIND] * 7, 16: [AHEAD] + [BEHIND] * 3 + [(DIVERGED, {})] * 4}
    assert findings_of(handmade(pruned, trials=8, **HALVING), UnequalTuning) == []
    stopped[16] = [AHEAD] * 4 + [(DIVERGED, {50: 0.5})] * 4
    (found,) = findings_of(handmade(stopped, trials=8, stop="goal"), UnequalTuning)
    assert (found.batch_sizes, found.fewest, found.most) == ((16,), 4, 8)


@pytest.mark.parametrize(
    ("step", "when"), [(128, "early"), (129, None), (959, None), (960, "late")]
)
def test_best_steps_in_the_first_tenth_or_the_last_quarter(step, when):
    record = handmade({8: [(DONE, {1: 0.5, step: 0.05, 1280: 0.06})]}, trials=1)
    assert [found.when for found in findings_of(record, BestStep)] == ([when] if when else [])


def test_a_shortfall_asks_to_resume_until_the_search_is_exhausted():
    rows = [(DONE, {100: 0.05})] + [(DIVERGED, {})] * 3
    verdict = summarise(handmade({8: rows}, trials=2)).verdict
    (found,) = [f for f in verdict.findings if isinstance(f, Shortfall)]
    assert (found.counted, found.planned, found.exhausted) == ((1,), 2, False)
    assert verdict.next.command == "batchscale run synthetic"
    status = study_status(handmade({8: rows}, trials=2))
    assert (status.counted, status.wanted) == (1, 2) and status.seconds_left is None
    failed = [*rows, *[(DIVERGED, {})] * 3, ("INCOMPLETE", {})]  # the last is tried again
    assert study_status(handmade({8: failed}, trials=2)).wanted == 2
    rows += [(DIVERGED, {})] * 4
    verdict = summarise(handmade({8: rows}, trials=2)).verdict
    status = study_status(handmade({8: rows}, trials=2))
    assert (status.counted, status.wanted, status.seconds_left) == (1, 1, 0)
    assert "Only 1 of the planned 2" in verdict.findings[0].sentence
    assert verdict.next.command == "batchscale run synthetic_narrower.py"


def test_a_finite_space_that_was_searched_whole_lacks_no_trial():
    """Of 60 trials asked for, one: it holds no other."""
    record = handmade({8: [(DONE, {100: 0.05})], 16: [(DONE, {9: 0.0})]}, trials=60)
    whole = {"points": [[0.5, 0.5]], "exhausted": True}
    rounds = [{"seed": 0, "round": 0, "batch_sizes": {"8": whole, "16": whole}}]
    record = dataclasses.replace(record, study={**record.study, "rounds": rounds})
    verdict = summarise(record).verdict
    assert "60 COMPLETE trials at batch sizes 8 and 16 (the space holds no other point)" in (
        verdict.findings[0].sentence
    )
    assert "resumes" not in verdict.next.reason and "narrower" not in verdict.next.command
    status = study_status(record)
    assert (status.counted, status.wanted, status.seconds_left) == (2, 2, 0)


def test_an_unreached_goal_asks_for_longer_trials():
    verdict = summarise(
        handmade({8: [(DONE, {100: 0.5})], 16: [(DONE, {9: 0.0})]}, trials=1)
    ).verdict
    assert Unreached((8,)) in verdict.findings
    assert verdict.next.command == "batchscale run synthetic_longer.py"


def study_of(step, folder):
    path = folder / step.file_name
    path.write_text(step.file_text)
    return studies.get(str(path)).resolved


@pytest.mark.parametrize("smoke", [False, True])
def test_the_proposed_study_files_run_as_they_stand(tmp_path, smoke):
    base = studies.get("quickstart", smoke=smoke).resolved
    low = base.space["learning_rate"].low
    record = make_record(base, Truth(diverges_above=math.inf))  # a shortfall would weigh more
    columns = {"learning_rate": pl.lit(1.01 * low), "momentum": pl.lit(0.9)}
    record = dataclasses.replace(record, trials=record.trials.with_columns(**columns))
    wider = study_of(summarise(record).verdict.next, tmp_path)
    assert wider.space["learning_rate"].low < 0.1 * low and wider.name == "quickstart_wider"
    diverged = make_record(base, Truth(diverges_above=0.0))
    narrower = study_of(summarise(diverged).verdict.next, tmp_path)
    ends = narrower.space["learning_rate"]
    assert ends.high == pytest.approx(
        math.sqrt(base.space["learning_rate"].low * base.space["learning_rate"].high)
    )
    assert (ends.low, narrower.name) == (low, "quickstart_narrower")
    assert narrower.batch_sizes == base.batch_sizes


def test_the_longer_study_doubles_what_fell_short(tmp_path):
    question = read_question(make_record(studies.get("quickstart", smoke=True)))
    longer = study_of(next_step(question, [Unreached(question.batch_sizes[:1])]), tmp_path)
    first, *others = question.batch_sizes
    assert longer.length(first) == 2 * question.train_steps[first]
    assert all(longer.length(b) == question.train_steps[b] for b in others)


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("quickstart --smoke --optimizer adam --fix warmup_steps=5%", None),
        ("quickstart --smoke --seed 0", None),
        ("optimizers_digits --smoke --seed 1", "adam"),
    ],
)
def test_the_next_command_repeats_what_was_typed(tmp_path, words, name):
    parsed = build_parser().parse_args(["run", *words.split()])
    found = chosen_study(parsed)
    base = resolve(found if name is None else found.studies[name])
    question = read_question(make_record(base))
    assert question.command == tuple(words.split())
    repeated = next_step(question, []).command
    assert repeated.startswith("batchscale run " + words.partition(" --seed")[0])
    more = f" --seed {max(base.seeds) + 1}" if len(base.seeds) == 1 else " --seeds 6"
    assert repeated.endswith(more)
    longer = study_of(next_step(question, [Unreached(question.batch_sizes[:1])]), tmp_path)
    first = question.batch_sizes[0]
    assert longer.length(first) == 2 * base.length(first)
    assert longer.space == base.space and longer.optimizer == base.optimizer


def test_a_smoke_study_is_resumed_as_one():
    question = read_question(make_record(studies.get("quickstart", smoke=True)))
    found = Shortfall((1,), (0,), 4, exhausted=False)
    assert next_step(question, [found]).command == "batchscale run quickstart --smoke"


def test_an_open_legal_limit_is_approached_and_never_met():
    (edge,) = findings_of(with_rate(0.1, {"momentum": Real(0.0, 0.9)}, 0.89), EdgeOptimum)
    assert edge.proposed == (0.0, pytest.approx(0.95))


def test_a_warmup_is_widened_to_the_shortest_trials_end():
    record = with_rate(0.1, {"warmup_steps": Real(1.0, 1000.0)})
    trials = record.trials.with_columns(warmup_steps=pl.lit(990.0))
    (edge,) = findings_of(dataclasses.replace(record, trials=trials), EdgeOptimum)
    assert edge.proposed == (1.0, 1280.0)


def test_a_sound_study_of_one_search_is_told_so_and_gets_six():
    record = handmade({8: [(DONE, {1: 0.5, 600: 0.05, 1280: 0.06})] * 2}, trials=2, seeds=(4,))
    trials = record.trials.with_columns(pl.lit(4).alias("seed"))
    evaluations = record.evaluations.with_columns(pl.lit(4).alias("seed"))
    verdict = summarise(dataclasses.replace(record, trials=trials, evaluations=evaluations)).verdict
    assert conclusive(verdict) == [OneSearch(limited=True)]
    assert "One search cannot say how much earlier" in verdict.findings[0].sentence
    assert verdict.next.command == "batchscale run synthetic --seeds 6"


def test_what_is_noted_and_the_reason_of_the_next_command_do_not_contradict_each_other():
    """A finding that no changed study answers is not followed by "nothing"."""
    early = {1: 0.5, 100: 0.05, 1280: 0.06}
    late, calm = {1: 0.5, 1280: 0.05}, {1: 0.5, 600: 0.05, 1280: 0.06}
    diverged = [(DIVERGED, {})] * 3
    for rows, noted in (
        ([(DONE, early)] * 2, ["far fewer steps would do"]),
        ([(DONE, late)] * 2, ["still improving"]),
        ([*diverged, *[(DONE, calm)] * 2], ["of the trials diverged"]),
        ([(DONE, calm)] * 2, []),
    ):
        verdict = summarise(handmade({8: rows}, trials=2)).verdict
        assert verdict.next.command == "batchscale run synthetic --seeds 6"
        *others, one = conclusive(verdict)
        assert isinstance(one, OneSearch)
        assert all(n in f.sentence for n, f in zip(noted, others, strict=True))
        assert ("Nothing here" in verdict.next.reason) == (not noted)
        assert ("what is noted above" in verdict.next.reason) == bool(noted)


@pytest.mark.parametrize("batch_sizes", [(16,), (2, 32)])
def test_everything_infeasible_is_a_result_too(batch_sizes):
    record = make_record(make_study(batch_sizes, trials=2), Truth(diverges_above=0.0))
    summary = summarise(record)
    assert summary.best.is_empty() and summary.budgets.is_empty()
    assert summary.steps["steps_to_result"].null_count() == len(batch_sizes)
    assert summary.steps["infeasible"].to_list() == [8] * len(batch_sizes)
    assert summary.critical.limit.value is None and summary.critical.noise.value is None
    assert summary.verdict.next.command == "batchscale run synthetic_narrower.py"


def curve_of(steps, seeds=(0,), luck=None):
    """One row a batch size, as the searches give it."""
    curves = {b: [(DONE, {1: 0.9, s - 1: 0.9, s: 0.05, 20_000: 0.06})] for b, s in steps.items()}
    record = handmade(curves, trials=1)
    if len(seeds) == 1:
        return record
    factor = luck or dict.fromkeys(seeds, 1.0)
    trials = [record.trials.with_columns(pl.lit(s).alias("seed")) for s in seeds]
    step = pl.when(pl.col("step").is_in([1, 20_000])).then("step")
    evaluations = [
        record.evaluations.with_columns(
            pl.lit(s).alias("seed"),
            step.otherwise((pl.col("step") * factor[s]).round().cast(pl.Int64)).alias("step"),
        )
        for s in seeds
    ]
    described = {**record.study["study"], "seeds": list(seeds)}
    return dataclasses.replace(
        record, study={**record.study, "study": described},
        trials=pl.concat(trials), evaluations=pl.concat(evaluations),
    )  # fmt: skip


def test_a_smallest_batch_size_not_tuned_to_its_end_is_named_with_more_trials_to_run():
    verdict = summarise(curve_of({1: 5000, 2: 2300, 4: 830, 8: 600})).verdict
    (found,) = [f for f in verdict.findings if isinstance(f, UntunedSmallest)]
    assert (found.batch_size, found.larger) == (1, 4)
    assert found.fewer == pytest.approx(1 - 4 * 830 / 5000)
    assert "34% fewer examples" in found.sentence
    assert verdict.next.command == "batchscale run synthetic --trials 2"
    fair = curve_of({1: 5000, 2: 2300, 4: 1005, 8: 600})  # 19.6 % fewer
    assert findings_of(fair, UntunedSmallest) == []


def test_steps_that_rise_far_with_the_batch_size_are_named():
    verdict = summarise(curve_of({1: 500, 2: 250, 4: 240, 8: 400})).verdict
    (found,) = [f for f in verdict.findings if isinstance(f, NonMonotone)]
    assert (found.batch_sizes, found.smaller) == ((8,), 4) and "67% more steps" in found.sentence
    assert findings_of(curve_of({1: 500, 2: 250, 4: 240, 8: 350}), NonMonotone) == []
    # Of several searches the ranges must lie apart as well.
    rising = {1: 500, 2: 250, 4: 240, 8: 400}
    apart = curve_of(rising, (0, 1, 2), {0: 0.9, 1: 1.0, 2: 1.1})
    assert len(findings_of(apart, NonMonotone)) == 1
    assert findings_of(curve_of(rising, (0, 1, 2), {0: 0.5, 1: 1.0, 2: 1.5}), NonMonotone) == []


def test_several_searches_are_not_told_that_they_are_one():
    rising = {1: 500, 2: 250, 4: 240}
    assert len(findings_of(curve_of(rising), OneSearch)) == 1
    assert findings_of(curve_of(rising, (0, 1)), OneSearch) == []


def test_checks_of_the_curve_raise_few_false_alarms():
    """Searches of 24 trials of a law that no batch size departs from, 200 studies."""
    false = {UntunedSmallest: 0, NonMonotone: 0}
    generator = np.random.default_rng(0)
    sizes = 2.0 ** np.arange(11)
    for _ in range(200):
        # Best of 24 trials whose rate is off by log-uniform factors of up to 100 either way.
        off = np.exp(generator.uniform(-4.6, 4.6, (11, 24)))
        steps = (40 * (1 + 64 / sizes))[:, None] * (off + 1 / off) / 2
        best = np.ceil(steps.min(axis=1) * np.exp(0.05 * generator.standard_normal(11)))
        across = pl.DataFrame(
            {"batch_size": sizes.astype(int), "median": best, "median_examples": best * sizes,
             "low": None, "high": None}
        )  # fmt: skip
        false[UntunedSmallest] += bool(untuned_smallest(ONE_STUDY, across))
        false[NonMonotone] += bool(non_monotone(across))
    assert all(count <= 0.03 * 200 for count in false.values()), false


ONE_STUDY = read_question(make_record(make_study(trials=1)))


def test_a_goal_that_most_searches_miss_is_not_said_to_be_missed_by_all():
    one = handmade({8: [(DONE, {10: 0.05})], 16: [(DONE, {10: 0.5})]}, trials=1)
    missed = pl.lit(0.5).alias("validation/classification_error")
    seeds = [pl.lit(s, dtype=pl.Int64).alias("seed") for s in (0, 1, 2)]
    evaluations = [one.evaluations.with_columns(s, missed) for s in seeds[1:]]
    record = dataclasses.replace(
        one,
        study={**one.study, "study": {**one.study["study"], "seeds": [0, 1, 2]}},
        trials=pl.concat(one.trials.with_columns(s) for s in seeds),
        evaluations=pl.concat([one.evaluations, *evaluations]),
    )
    verdict = summarise(record).verdict
    never, most = (f for f in verdict.findings if isinstance(f, Unreached))
    assert (never, most) == (Unreached((16,)), Unreached((8,), some=True))
    assert verdict.next.command == "batchscale run synthetic_longer.py"


@pytest.mark.parametrize(("searches", "wanted", "coverage"), [(2, 6, "96.9%"), (6, 8, "99.2%")])
def test_a_sound_study_of_several_searches_is_offered_more_of_them(searches, wanted, coverage):
    question = read_question(make_record(make_study(trials=1, seeds=range(searches))))
    asked = dataclasses.replace(question, command=("synthetic", "--seeds", str(searches)))
    for study in (question, asked):
        step = next_step(study, [])
        assert step.command == f"batchscale run synthetic --seeds {wanted}"
        assert coverage in step.reason
