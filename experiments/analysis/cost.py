"""Time and cost of reaching the goal, and the batch size that makes each least.

    training time(B) = seconds per step(B) x steps to result(B)
    cost(B) = price of a device for an hour x devices(B) x training time(B) / 3600

(Shallue et al. 2019, section 2; the Tuning Playbook.) Steps fall as B grows and a step takes
longer: time is least where the two balance, at another batch size than steps or examples are.
Seconds per step come from ``batchscale plan`` (one training alone on its devices) or from the
trials of the record (each one's share of what was trained side by side); they are taken as exact
beside the steps, whose range over the searches carries over.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from experiments.analysis.intervals import NO_ANSWER, Answer, range_of_searches
from experiments.analysis.searches import search_answer
from experiments.analysis.view import View

QUANTITIES = ("time", "cost")


@dataclasses.dataclass(frozen=True)
class StepTimes:
    """The time of a step at each batch size, and the number of devices it took.

    Attributes:
      seconds: batch size -> seconds of a step of one training.
      devices: batch size -> devices whose time that is.
      source: where the seconds are from, in words.
    """

    seconds: Mapping[int, float]
    devices: Mapping[int, int]
    source: str


@dataclasses.dataclass(frozen=True)
class Prices:
    """Prices of time and devices that a report is told.

    Attributes:
      per_device_hour: of one device; None: costs are in hours of one device.
      plan: what ``batchscale plan --json`` wrote; None: the record's own times.
    """

    per_device_hour: float | None = None
    plan: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Least:
    """The batch size at which a quantity is least.

    Attributes:
      quantity: "time" or "cost".
      batch_size: that of the least median over the searches; None where no search has one.
      value: the quantity there, in seconds or in the price's unit (hours of a device).
      searches: that answer.
      low, high, coverage: exact range of the batch size at which one search's is least, infinite
        where a search has none; None for one search.
    """

    quantity: str
    batch_size: int | None
    value: float | None
    searches: int
    low: float | None = None
    high: float | None = None
    coverage: float | None = None


@dataclasses.dataclass(frozen=True)
class CostToGoal:
    """Time and cost to the goal.

    Attributes:
      table: one row a batch size whose seconds per step are known: ``batch_size,
        seconds_per_step, devices, examples_per_second``, steps to result over the searches
        (``median, low, high, limit, pooled`` steps) and the same times what a step takes,
        ``time_*`` in seconds, and costs, ``cost_*``.
      least: one `Least` a quantity.
      source: of the seconds, in words.
      priced: whether costs are in money.
    """

    table: pl.DataFrame
    least: tuple[Least, ...]
    source: str
    priced: bool


def pace_of_record(view: View) -> StepTimes:
    """Median over trials of seconds / steps, and the devices of the plan that most of them ran by.

    Empty where the record holds no times, as an imported one.
    """
    trials = view.record.trials
    source = "the record: a trial's share of what was trained side by side"
    if not {"seconds", "plan"} <= set(trials.columns):
        return StepTimes({}, {}, source)
    timed = trials.filter((pl.col("seconds") > 0) & (pl.col("steps") > 0))
    each = timed.with_columns(each=pl.col("seconds") / pl.col("steps"))
    found = each.group_by("batch_size").agg(
        pl.col("each").median(), pl.col("plan").mode().min().alias("plan")
    )
    plans = view.record.study.get("plans", [])
    seconds, devices = {}, {}
    for batch_size, each_step, plan in found.sort("batch_size").iter_rows():
        seconds[int(batch_size)] = float(each_step)
        devices[int(batch_size)] = _devices(plans, plan, batch_size)
    return StepTimes(seconds, devices, source)


def _devices(plans: Sequence[Mapping[str, Any]], index: int, batch_size: int) -> int:
    """The devices of a recorded execution, those of virtual replicas being one."""
    executions = plans[index].get("executions", {}) if index < len(plans) else {}
    layout = executions.get(str(batch_size), {}).get("layout", {})
    if layout.get("how") == "vmap":
        return 1
    return int(layout.get("trials", 1)) * int(layout.get("data", 1))


def pace_of_plan(plan: Mapping[str, Any]) -> StepTimes:
    """Median seconds of a step from what ``batchscale plan --json`` wrote.

    Raises:
      ValueError: it is not such an answer, or it measured no batch size.
    """
    rows = plan.get("rows") if isinstance(plan, Mapping) else None
    if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
        raise ValueError("the plan must be what batchscale plan STUDY --json FILE wrote")
    devices = plan.get("step_devices", 1)
    timed = {row.get("batch_size"): row.get("seconds_per_step") for row in rows}
    seconds = {
        size: float(each)
        for size, each in timed.items()
        if isinstance(size, int) and isinstance(each, (int, float)) and 0 < each < math.inf
    }
    if not seconds or not isinstance(devices, int) or devices < 1:
        raise ValueError("the plan holds no seconds per step: no batch size was measured")
    study, device = plan.get("study_name", "?"), plan.get("device", "?")
    source = f"batchscale plan of {study} on {device}: one training alone"
    return StepTimes(seconds, dict.fromkeys(seconds, devices), source)


def cost_of(
    view: View,
    curve: pl.DataFrame,
    answers: Mapping[tuple[int, int], Sequence[Answer]],
    prices: Prices = Prices(),
) -> CostToGoal:
    """Time and cost to the view's goal.

    Args:
      curve: rows of `searches.steps_across`.
      answers: (batch size, seed) -> its trials' answers in steps (`searches.trial_answers`).
    """
    pace = pace_of_record(view) if prices.plan is None else pace_of_plan(prices.plan)
    per_hour = 1.0 if prices.per_device_hour is None else prices.per_device_hour
    sizes = [b for b in curve["batch_size"].to_list() if b in pace.seconds]
    facts = pl.DataFrame(
        {
            "batch_size": sizes,
            "seconds_per_step": [pace.seconds[b] for b in sizes],
            "devices": [pace.devices[b] for b in sizes],
        },
        schema={"batch_size": pl.Int64, "seconds_per_step": pl.Float64, "devices": pl.Int64},
    )
    steps = ("median", "low", "high", "limit", "pooled")
    table = facts.join(curve.select("batch_size", "searches", *steps), on="batch_size", how="left")
    step = pl.col("seconds_per_step")
    money = step * pl.col("devices") * per_hour / 3600
    table = table.with_columns(
        (pl.col("batch_size") / step).alias("examples_per_second"),
        *((pl.col(name) * step).alias(f"time_{name}") for name in steps),
        *((pl.col(name) * money).alias(f"cost_{name}") for name in steps),
    ).sort("batch_size")
    factors = {
        "time": dict(table.select("batch_size", step).iter_rows()),
        "cost": dict(table.select("batch_size", money).iter_rows()),
    }
    least = tuple(_least(name, table, answers, factors[name]) for name in QUANTITIES)
    return CostToGoal(table, least, pace.source, prices.per_device_hour is not None)


def _least(
    quantity: str,
    table: pl.DataFrame,
    answers: Mapping[tuple[int, int], Sequence[Answer]],
    factors: Mapping[int, float],
) -> Least:
    column = f"{quantity}_median"
    known = table.drop_nulls(column).sort(column, "batch_size")
    first = known.row(0, named=True) if len(known) else {}
    searches: dict[int, dict[int, Answer]] = {}
    for (batch_size, seed), trials in answers.items():
        if batch_size not in factors:
            continue
        own = searches.setdefault(seed, {})
        if trials:  # where none counts it is not the least
            found, factor = search_answer(trials), factors[batch_size]
            own[batch_size] = Answer(found.low * factor, found.high * factor)
    across = [least_among(found) for found in searches.values()]
    found_range = range_of_searches(across)
    ends = (found_range.low, found_range.high, found_range.coverage) if found_range else ()
    return Least(quantity, first.get("batch_size"), first.get(column), len(across), *ends)


def least_among(answers: Mapping[int, Answer]) -> Answer:
    """The batch sizes at which one search's quantity may be least, as the ends they lie between.

    The evaluation grid says only that each lies in (low, high]: a batch size whose low end lies
    above another's high end is not the one.

    >>> least_among({8: Answer(9.0, 10.0), 16: Answer(6.0, 7.0), 32: Answer(6.5, 8.0)})
    Answer(low=16.0, high=32.0)
    """
    best = min((answer.high for answer in answers.values()), default=math.inf)
    if math.isinf(best):
        return NO_ANSWER
    possible = [
        size for size, answer in answers.items() if answer.low < best or answer.high <= best
    ]
    return Answer(float(min(possible)), float(max(possible)))
