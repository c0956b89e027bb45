"""The lines that a search shows while it runs: the plan, every trial beside the best so far."""

from __future__ import annotations

import collections
import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from experiments.analysis.search_record import Searched
from experiments.spec.conditions import read_back
from experiments.spec.trial import Status, TrialResult
from experiments.spec.user_search import UserSearch

RECENT = 12
"""Trials that a terminal keeps in view."""


class Shown:
    """A live table on a terminal, a line a trial elsewhere.

    Args:
      asked: the search.
      described: as it is recorded.
      open_ended: its rounds go on until something else than a number of trials ends them.
    """

    def __init__(
        self, asked: UserSearch, described: Mapping[str, Any], *, open_ended: bool = False
    ):
        self._asked, self._described, self._open_ended = asked, described, open_ended
        self._sign = 1 if described["direction"] == "min" else -1
        self._best: tuple[float, dict[str, Any], int] | None = None
        self._rows: collections.deque[tuple[str, ...]] = collections.deque(maxlen=RECENT)
        self._ended = 0
        self._began = time.perf_counter()
        self._live: Any = None
        self._latest: dict[str, Any] = {}

    @contextlib.contextmanager
    def live(self, before: Searched) -> Iterator[None]:
        """Show what comes; what a record holds already counts."""
        self._plan(before)
        self._ended = before.ended
        if (row := before.best) is not None:
            self._best = (row["value"], before.hyperparameters(row), row["trial"])
            print(f"goes on after {self._ended} trials, the best of them {row['value']:.4g}")
        if not sys.stdout.isatty():
            print(self._line(self._titles()), flush=True)
            yield
            return
        from rich.live import Live

        with Live(self._table(), refresh_per_second=4) as self._live:
            yield
        self._live = None

    def _plan(self, before: Searched) -> None:
        """Print what is asked, and the brackets of a pruner that has some."""
        asked = self._described
        print(f"{asked['name']}: {asked['question']}")
        many = f"up to {asked['trials']} trials of"
        if self._open_ended:
            many = "rounds of trials of up to"
        print(
            f"{many} {asked['pruner']['resource']} {asked['unit']}, {_further(asked)}"
            f"sampler {asked['sampler']}, pruner {asked['pruner']['name']}"
            + (f", patience {asked['patience']}" if asked["patience"] else "")
        )
        if asked["pruner"]["name"] in ("hyperband", "successive_halving"):
            print(f"brackets (trials @ {asked['unit']}):")
            for number, size, rungs in before.plan:
                print(f"  {number}: {size:>4} trials: {rungs}")
            if left := asked["trials"] - sum(size for _, size, _ in before.plan):
                print(f"  the next bracket does not fit into the {left} trials that are left")
        sys.stdout.flush()

    def ended(self, result: TrialResult) -> None:
        """A trial has ended."""
        self._ended += 1
        values = self._values(result)
        measured = result.evaluations.get(self._described["column"], ())
        finite = [float(v) for v in measured if abs(float(v)) < float("inf")]
        value = None
        if finite and result.status in (Status.COMPLETE, Status.STOPPED):
            value = min(finite, key=lambda v: self._sign * v)
            better = self._best is None or self._sign * value < self._sign * self._best[0]
            if better:
                self._best = (value, values, result.trial.index)
        self._latest = values
        best = "" if self._best is None else f"{self._best[0]:.4g}"
        self._rows.append(
            (
                str(result.trial.index),
                f"{self._resource(result):g}",
                "" if value is None else f"{value:.4g}",
                best,
                _how(result),
                _words(values),
            )
        )
        if self._live is not None:
            self._live.update(self._table())
        else:
            print(self._line(self._rows[-1]), flush=True)

    def over(self, found: Searched) -> None:
        """The last lines."""
        row = found.best
        assert row is not None, "a search without a value has ended in an error"
        asked = self._described
        if found.exhausted:
            total = len(found.trials)
            print(f"the space holds no other point: {total} of {asked['trials']} trials")
        if found.inherit is not None:
            heirs, steps, anew = found.steps
            print(
                f"{heirs} of {found.ended} trials began with the weights of an earlier one: "
                f"{steps:,} steps in all, about {anew:,} had each begun anew"
            )
        seconds = time.perf_counter() - self._began
        print(
            f"best: {row['value']:.4g} (trial {row['trial']}), "
            f"{_words(found.hyperparameters(row))}; {self._ended} trials, {seconds:.0f} s"
        )

    def _values(self, result: TrialResult) -> dict[str, Any]:
        ranges = self._asked.checked.ranges
        found: Mapping[str, Any] = result.trial.hyperparameters
        values = {name: read_back(ranges[name], found[name]) for name in ranges if name in found}
        if "batch_size" in ranges:
            values["batch_size"] = result.trial.batch_size
        return values

    def _resource(self, result: TrialResult) -> float:
        examples = result.steps * (result.trial.batch_size if self._asked.build else 1)
        return round(examples / self._described["unit_examples"], 1)

    def _titles(self) -> tuple[str, ...]:
        unit = str(self._described["unit"])
        return ("trial", unit, "value", "best so far", "ended", "hyperparameters")

    @staticmethod
    def _line(cells: tuple[str, ...]) -> str:
        trial, resource, value, best, how, words = cells
        return f"{trial:>6} {resource:>8} {value:>10} {best:>12}  {how:<9} {words}"

    def _table(self) -> Any:
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        recent = Table(box=None, pad_edge=False)
        for title in self._titles():
            right = title not in ("ended", "hyperparameters")
            recent.add_column(title, justify="right" if right else "left")
        for row in self._rows:
            recent.add_row(*map(Text, row))
        now = Table(box=None, pad_edge=False)
        for title in ("hyperparameter", "newest trial", "best so far"):
            now.add_column(title)
        best = self._best[1] if self._best else {}
        for name in self._asked.checked.ranges:
            now.add_row(Text(name), *(Text(_word(v.get(name))) for v in (self._latest, best)))
        of = "" if self._open_ended else f" of {self._described['trials']}"
        head = Text(f"{self._ended}{of} trials have ended")
        return Group(head, recent, Text(), now)


def _further(asked: Mapping[str, Any]) -> str:
    inherit = asked.get("proposer", {}).get("inherit")
    return f"{inherit['further']} of one that inherits weights, " if inherit else ""


def _how(result: TrialResult) -> str:
    if result.status == Status.STOPPED:
        return result.reason
    return {"COMPLETE": "full", "INFEASIBLE": "diverged"}.get(str(result.status), "failed")


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_word(value)}" for name, value in values.items())


def _word(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
