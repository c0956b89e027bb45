"""A recorded search over a user's own function or model, read back. Imports no jax.

`experiments.runner.search` writes it under the rules of a study's record: the same parts, commits
and lock. Where a study asks about batch sizes, it asks for one best trial.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from experiments.records.files import RecordError
from experiments.records.reader import Record
from experiments.search.fidelity import Pruner, table
from experiments.search.record import Round
from experiments.spec.conditions import ConditionalSpace, is_text, read_back
from experiments.spec.space import Choice, Integer, Value
from experiments.spec.trial import Status

KIND = "search"
ONE = 1
"""The batch size that a search's rounds are recorded under: its points are of all."""


def is_search(study: Mapping[str, Any]) -> bool:
    """Tell whether the content of a study.json is a search's."""
    return bool(study.get("study", {}).get("kind") == KIND)


@dataclasses.dataclass(frozen=True)
class Searched:
    """A search's record.

    Attributes:
      record: as it was read.
      asked: the question (``study`` of study.json).
      space: what was searched.
      pruner: with its numbers.
      rounds: in their order.
    """

    record: Record
    asked: Mapping[str, Any]
    space: ConditionalSpace
    pruner: Pruner
    rounds: tuple[Round, ...]

    @classmethod
    def of(cls, record: Record) -> Searched:
        """Read back.

        Raises:
          RecordError: it is no search's record, or one that cannot be understood.
        """
        asked = record.study.get("study", {})
        if not is_search(record.study):
            raise RecordError("the record holds no search over a function or a model")
        try:
            space = ConditionalSpace.of(asked["space"])
            pruner = Pruner(**asked["pruner"], minimize=asked["direction"] == "min")
            rounds = tuple(Round.from_json(found) for found in record.study.get("rounds", []))
            _ = asked["column"], asked["unit"], asked["trials"], asked["unit_examples"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise RecordError(f"study.json cannot be understood: {error}") from error
        return cls(record, asked, space, pruner, rounds)

    @property
    def sign(self) -> int:
        """1 where a lower value is better, -1 where a higher one is."""
        return 1 if self.asked["direction"] == "min" else -1

    @property
    def names(self) -> list[str]:
        """The searched hyperparameters, in the order they were written down."""
        return list(self.asked["names"])

    @functools.cached_property
    def curves(self) -> pl.DataFrame:
        """``trial, resource, value``: what every trial measured, sorted."""
        rows = self.record.scan("evaluations")
        assert rows is not None, "a record always has the table"
        column = self.asked["column"]
        if column not in rows.collect_schema().names():
            return pl.DataFrame(
                schema={"trial": pl.Int64, "resource": pl.Int64, "value": pl.Float64}
            )
        resource = (pl.col("examples") / self.asked["unit_examples"]).round().cast(pl.Int64)
        found = rows.select("trial", resource=resource, value=pl.col(column))
        return found.sort("trial", "resource").collect()

    @functools.cached_property
    def trials(self) -> pl.DataFrame:
        """One row a trial, by index.

        Columns: ``trial``; ``status, reason, message``; ``round`` and ``source``, who proposed it;
        ``resource`` it was trained to; ``value``, its best (null where it diverged or failed);
        ``best``, the best of all trials up to it; ``seconds``; of a search in which weights are
        inherited ``parent``, the trial whose weights it began with (null: none); then the
        hyperparameters, null where one does not exist (`hyperparameters` gives them as the user's
        function takes them).
        """
        finite = pl.col("value").filter(pl.col("value").is_finite())
        best = finite.min() if self.sign == 1 else finite.max()
        values = self.curves.group_by("trial").agg(
            best.alias("value"), pl.col("resource").max().alias("resource")
        )
        rows = self.record.trials.sort("trial")
        known = pl.col("status").is_in([Status.COMPLETE.value, Status.STOPPED.value])
        put_aside = (pl.col("status") == Status.INCOMPLETE.value) & (
            pl.col("message").str.starts_with(PUT_ASIDE)
        )
        found = rows.join(values, on="trial", how="left").with_columns(
            value=pl.when(known | put_aside).then(pl.col("value")),
            resource=pl.col("resource").fill_null(0),
        )
        running = pl.col("value").fill_null(self.sign * float("inf"))
        running = running.cum_min() if self.sign == 1 else running.cum_max()
        places = pl.DataFrame(
            self._places(), schema={"trial": pl.Int64, "round": pl.Int64, "source": pl.String,
                                    "parent": pl.Int64},
            orient="row",
        )  # fmt: skip
        found = (
            found.join(places, on="trial", how="left")
            .sort("trial")
            .with_columns(best=pl.when(running.is_finite()).then(running))
        )
        columns = ["trial", "status", "reason", "message", "round", "source", "resource", "value",
                   "best", "seconds", *(["parent"] if self.inherit else [])]  # fmt: skip
        return found.select(columns).with_columns(self._native(found, name) for name in self.names)

    def _native(self, rows: pl.DataFrame, name: str) -> pl.Series:
        distribution = self.space.ranges[name]
        kind: type[pl.DataType] = pl.String if is_text(distribution) else pl.Float64
        if name not in rows.columns:
            return pl.Series(name, [None] * len(rows), dtype=kind)
        values = rows[name].cast(kind)
        words = isinstance(distribution, Choice) and distribution.values
        whole = isinstance(distribution, Integer) or all(
            isinstance(value, int) for value in words or (0.5,)
        )
        return values.cast(pl.Int64) if whole and kind == pl.Float64 else values

    def _places(self) -> list[tuple[int, int, str, int | None]]:
        places: list[tuple[int, int, str, int | None]] = []
        for found in self.rounds:
            sources = found.proposal.sources.get(ONE, ())
            parents = found.proposal.parents.get(ONE) or (None,) * len(sources)
            for source, parent in zip(sources, parents, strict=True):
                places.append((len(places), found.number, source, parent))
        return places

    @property
    def inherit(self) -> Mapping[str, Any] | None:
        """The inheritance of weights that was asked for; None where there is none."""
        found: Mapping[str, Any] | None = self.asked.get("proposer", {}).get("inherit")
        return found

    @property
    def steps(self) -> tuple[int, int, int]:
        """(trials that began with another's weights, steps of all trials, steps that all would
        have made had each of those trained the whole budget anew); of a search that inherits."""
        rows = self.trials.join(self.record.trials.select("trial", "steps"), on="trial")
        heirs = rows.filter(pl.col("parent").is_not_null())
        made = int(rows["steps"].sum())
        assert self.inherit is not None, "it inherits"
        share = self.pruner.resource / self.inherit["further"]
        return len(heirs), made, made + round(int(heirs["steps"].sum()) * (share - 1))

    @property
    def best(self) -> dict[str, Any] | None:
        """The row of the best trial, the first of equal ones; None where none has a value."""
        known = self.trials.filter(pl.col("value").is_not_null())
        if known.is_empty():
            return None
        order = known.sort(self.sign * pl.col("value"), "trial")
        return order.row(0, named=True)

    def hyperparameters(self, row: Mapping[str, Any]) -> dict[str, Value]:
        """Those of a row that exist."""
        return {
            name: read_back(self.space.ranges[name], row[name])
            for name in self.names
            if row[name] is not None
        }

    @property
    def exhausted(self) -> bool:
        """Tell whether every point of a finite space was proposed before there were enough."""
        return any(ONE in found.proposal.exhausted for found in self.rounds)

    @property
    def plan(self) -> list[tuple[int, int, str]]:
        """The rungs of every population: `experiments.search.fidelity.table`."""
        return table(self.pruner, self.asked["trials"])

    @property
    def ended(self) -> int:
        """Trials that have ended, one that was put aside not among them."""
        return int((self.record.trials["status"] != Status.INCOMPLETE.value).sum())

    @property
    def wanted(self) -> int:
        """Trials that are to end, as far as is known."""
        proposed = sum(found.counts.get(ONE, 0) for found in self.rounds)
        return proposed if self.exhausted else max(proposed, sum(n for _, n, _ in self.plan))


PUT_ASIDE = "put aside at "
"""Begins the message of a trial that is INCOMPLETE because it waits for others."""


def searched(folder: Path | str) -> Searched:
    """The search recorded in ``folder``.

    Raises:
      RecordError: there is none.
    """
    from experiments.records.store import read

    return Searched.of(read(folder))
