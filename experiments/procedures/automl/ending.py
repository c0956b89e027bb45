"""The end of an automl: the best trials trained again, chosen among, saved and tested once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import numpy as np

from experiments.analysis.intervals import Interval
from experiments.analysis.shares import exact_share
from experiments.diagnostics.ensemble_selection import cross_entropy, selected
from experiments.procedures.automl.data import ENOUGH_TO_COUNT, Examples
from experiments.procedures.automl.limits import EndingTime
from experiments.procedures.automl.plan import AutomlPlan
from experiments.runner.predict import Predictor, TrainedNet, initial, of_folds
from experiments.runner.search import SearchResult
from experiments.spec.families import largest_values

ADDITIONS = 3
"""Additions of ensemble selection, for each member to choose from."""


@dataclasses.dataclass(frozen=True)
class Score:
    """A prediction of a split.

    Attributes:
      errors, examples: counted.
      cross_entropy: in nats.
    """

    errors: int
    examples: int
    cross_entropy: float

    @property
    def error(self) -> float:
        """Share of wrong examples."""
        return self.errors / self.examples

    @property
    def interval(self) -> Interval:
        """Exact, of the error on new examples of the same kind."""
        return exact_share(self.errors, self.examples)


@dataclasses.dataclass(frozen=True)
class Finalist:
    """A trial that was trained again.

    Attributes:
      trial: its index.
      cross_entropy: on validation, alone.
      seconds: of training it again.
    """

    trial: int
    cross_entropy: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Chosen:
    """The predictor and its worth.

    Attributes:
      predictor: of the nets that were chosen.
      members: as of its nets, in their order.
      candidates: trials that were trained again.
      best: on validation, of the best trial alone.
      validation: of the predictor, before a refit.
      trained_on: the examples that its nets were trained on, in words.
    """

    predictor: Predictor
    members: Sequence[Finalist]
    candidates: int
    best: Score
    validation: Score
    trained_on: str = ""


def score(shares: np.ndarray, labels: np.ndarray) -> Score:
    """Of probabilities [examples, classes]."""
    errors = int((shares.argmax(axis=1) != labels).sum())
    return Score(errors, len(labels), cross_entropy(shares, labels))


def chosen(
    found: SearchResult,
    examples: Examples,
    members: int,
    time: EndingTime,
    say: Callable[[str], None],
) -> Chosen:
    """Choose among the best trials, at their best epochs, by ensemble selection on validation.

    Args:
      found: the search.
      examples: its data.
      members: to choose from, at most; the first in any case, others as ``time`` allows.
      time: of the ending.
      say: takes a line.
    """
    sign = found.searched.sign
    known = [r for r in found.table.iter_rows(named=True) if r["value"] is not None]
    ranked = sorted(known, key=lambda row: (sign * row["value"], row["trial"]))
    labels = examples.splits["validation"][1]
    nets: list[TrainedNet] = []
    tried: list[Finalist] = []
    shares: list[np.ndarray] = []
    for row in ranked[:members]:
        if nets and not time.more(sum(member.seconds for member in tried)):
            break
        began = time.spent()
        params, state = jax.device_get(found.model(row["trial"])[1:])
        seconds = time.spent() - began
        values = found.searched.hyperparameters(row)
        nets.append(TrainedNet(values, params, state, 0.0, f"trial {row['trial']}", examples.nets,
                        examples.size("train")))  # fmt: skip
        shares.append(validated(nets[-1], examples))
        tried.append(Finalist(row["trial"], cross_entropy(shares[-1], labels), seconds))
    say(f"ensemble: selection among the best {len(nets)} of {len(known)} trials")
    stacked = np.stack(shares)
    # Few examples flatter the single net that suits them by luck.
    start = len(nets) if len(labels) < ENOUGH_TO_COUNT else 0
    weights = selected(stacked, labels, ADDITIONS * len(nets), start=start)
    order = sorted(np.flatnonzero(weights), key=lambda i: -weights[i])
    kept = [dataclasses.replace(nets[i], weight=float(weights[i])) for i in order]
    averaged = np.tensordot(weights, stacked, axes=1)
    return Chosen(
        _predictor(kept, examples),
        [tried[i] for i in order],
        len(nets),
        score(stacked[0], labels),
        score(averaged, labels),
    )


def validated(net: TrainedNet, examples: Examples) -> np.ndarray:
    """[n, classes] probabilities of the validation examples, of each by a net that it did not
    train."""
    found = of_folds(net, examples.splits["validation"][0], len(examples.classes))
    own = 0 if examples.folds is None else examples.folds
    return found[np.arange(len(found)), own]


def untrained(examples: Examples, plan: AutomlPlan) -> Predictor:
    """A predictor with the largest net, to rehearse with."""
    values = largest_values(plan.preset, examples.shape)
    tree = jax.device_get(initial(values, len(examples.classes), examples.shape, examples.nets))
    net = TrainedNet(values, tree["params"], tree["state"], 1.0, "untrained", examples.nets)
    return _predictor([net], examples)


def _predictor(nets: Sequence[TrainedNet], examples: Examples) -> Predictor:
    source = examples.source
    about = {"source": source.name, "about": source.about, "example": list(examples.shape)}
    return Predictor(examples.classes, examples.preparation, tuple(nets), about)
