"""A record as an Optuna study in an SQLite file, for Optuna and its dashboard.

Every search (a batch size and a seed) is one Optuna study, called ``NAME, batch size B, seed S``; a
search over a user's own model or function is one of its name. A value is a trial's best of the
metric that decides; intermediate values are its evaluations, by step.

COMPLETE stays so, also for a trial that stopped at the goal, in a race or out of patience; a pruned
one is PRUNED, one that diverged or failed is FAIL. The status as recorded, the steps, who proposed
the point and any message are user attributes. Optuna has no reverse logarithm and no range with a
zero of its own: those are linear ranges there. A range that a search went beyond is as wide as
what was tried.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.records.files import RecordError, check_writable, disk_errors, write_whole
from experiments.records.reader import Record, read
from experiments.records.schema import STUDY_FILE
from experiments.records.tables import TRIAL_KEY
from experiments.spec.conditions import ConditionalSpace, read_back
from experiments.spec.space import Choice, Distribution, Integer, Value, ZeroOrLog
from experiments.spec.trial import Status

if TYPE_CHECKING:
    import optuna

_ATTRIBUTES = ("status", "reason", "steps", "train_steps", "seconds", "message", "batch_size")


@dataclasses.dataclass(frozen=True)
class _Search:
    """One Optuna study to be.

    Attributes:
      name: of the study.
      rows: of the trials table, by index.
      sources: trial -> who proposed it.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    sources: Mapping[int, str]


def export_optuna(folder: Path, out: Path) -> Path:
    """Write the SQLite file ``out``, whole or not at all.

    Raises:
      RecordError: there is no readable record, ``out`` exists or cannot be written, or Optuna is
        not installed.
    """
    try:
        import optuna
        from sqlalchemy.pool import NullPool
    except ModuleNotFoundError as error:
        raise RecordError('export --to optuna needs pip install "batchscale[search]"') from error
    record = read(folder)
    if out.exists() or out.is_symlink():
        raise RecordError(f"the file {out} already exists: choose another")
    check_writable(out.absolute().parent)
    began = datetime.datetime.fromtimestamp(os.path.getmtime(folder / STUDY_FILE))
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with tempfile.TemporaryDirectory() as building, disk_errors(out):
            path = Path(building) / "study.db"
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{path}",
                engine_kwargs={"poolclass": NullPool},
                skip_compatibility_check=True,
            )
            try:
                _fill(record, storage, began)
            finally:
                storage.remove_session()
            out.absolute().parent.mkdir(parents=True, exist_ok=True)
            write_whole(out, path.read_bytes())
    finally:
        optuna.logging.set_verbosity(level)
    return out


def _fill(record: Record, storage: optuna.storages.RDBStorage, began: datetime.datetime) -> None:
    import optuna

    asked = record.study["study"]
    space = ConditionalSpace.of(asked["space"]) if asked["space"] else ConditionalSpace({}, {})
    column, direction = _decides(asked)
    curves = _curves(record, column)
    ranges = {name: _distribution(name, space.ranges[name], record) for name in space.ranges}
    for search in _searches(record):
        study = optuna.create_study(
            storage=storage,
            study_name=search.name,
            direction="minimize" if direction == "min" else "maximize",
        )
        study.set_user_attr("question", asked.get("question", ""))
        study.set_user_attr("metric", column)
        for row in search.rows:
            curve = curves.get(tuple(row[name] for name in TRIAL_KEY), {})
            trial = _trial(row, space, ranges, curve, direction)
            trial.user_attrs["proposed by"] = search.sources.get(row["trial"], "")
            trial.datetime_start = began
            if trial.state.is_finished():
                trial.datetime_complete = began + datetime.timedelta(seconds=row["seconds"] or 0.0)
            study.add_trial(trial)


def _decides(asked: Mapping[str, Any]) -> tuple[str, str]:
    """The column of the evaluations that decides, and its direction."""
    if "goal" in asked:
        goal = asked["goal"]
        return f"{goal.get('split', 'validation')}/{goal['metric']}", goal["direction"]
    return asked["column"], asked["direction"]


def _searches(record: Record) -> Iterator[_Search]:
    name = record.study["study"]["name"]
    rounds = record.study.get("rounds", [])
    alone = "goal" not in record.study["study"]
    keys = ["seed"] if alone else ["batch_size", "seed"]
    for key in record.trials.select(keys).unique().sort(keys).iter_rows():
        found = dict(zip(keys, key, strict=True))
        rows = record.trials.filter(**found).sort("trial").rows(named=True)
        size = str(found.get("batch_size", 1))
        proposed = [
            source
            for one in rounds
            if one["seed"] == found["seed"] and size in one["batch_sizes"]
            for source in one["batch_sizes"][size]["sources"]
        ]
        words = [f"{word.replace('_', ' ')} {value}" for word, value in found.items()]
        yield _Search(name if alone else ", ".join([name, *words]), rows, dict(enumerate(proposed)))


def _curves(record: Record, column: str) -> dict[tuple[Any, ...], dict[int, float]]:
    """Trial's key -> step -> value."""
    rows = record.scan("evaluations")
    assert rows is not None, "a record always has the table"
    if column not in rows.collect_schema().names():
        return {}
    found: dict[tuple[Any, ...], dict[int, float]] = {}
    for *key, step, value in rows.select(*TRIAL_KEY, "step", column).collect().iter_rows():
        if value is not None:
            found.setdefault(tuple(key), {})[step] = value
    return found


def _distribution(
    name: str, distribution: Distribution, record: Record
) -> optuna.distributions.BaseDistribution:
    """A range as Optuna has it, wide enough for what was tried."""
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    if isinstance(distribution, Choice):
        return CategoricalDistribution(distribution.values)
    if isinstance(distribution, Integer):
        low, high = distribution.values[0], distribution.values[-1]
        return IntDistribution(low, high, log=distribution.scale == "log", step=distribution.step)
    zero = isinstance(distribution, ZeroOrLog)
    tried = record.trials[name].drop_nulls().to_list() if name in record.trials.columns else []
    least = min([0.0 if zero else distribution.low, *tried])
    most = max([distribution.high, *tried])
    return FloatDistribution(least, most, log=distribution.scale == "log" and least > 0)


def _trial(
    row: Mapping[str, Any],
    space: ConditionalSpace,
    ranges: Mapping[str, optuna.distributions.BaseDistribution],
    curve: Mapping[int, float],
    direction: str,
) -> optuna.trial.FrozenTrial:
    import optuna

    values = [value for value in curve.values() if math.isfinite(value)]
    state = _state(row, bool(values))
    params: dict[str, Value] = {
        name: read_back(space.ranges[name], row[name])
        for name in space.ranges
        if row.get(name) is not None
    }
    best = (min if direction == "min" else max)(values, default=None)
    finished = state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return optuna.trial.create_trial(
        state=state,
        value=best if finished else None,
        params=params,
        distributions={name: ranges[name] for name in params},
        user_attrs={name: row[name] for name in _ATTRIBUTES if row.get(name) is not None},
        intermediate_values=dict(curve),
    )


def _state(row: Mapping[str, Any], measured: bool) -> optuna.trial.TrialState:
    import optuna

    states = optuna.trial.TrialState
    if row["status"] in (Status.INFEASIBLE, Status.INCOMPLETE) or not measured:
        return states.FAIL
    return states.PRUNED if row.get("reason") == "pruned" else states.COMPLETE
