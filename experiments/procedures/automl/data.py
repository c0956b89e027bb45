"""The examples of an automl: split by class, checked, prepared by the training split alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.diagnostics.overlap import overlaps
from workloads.datasets.base import Dataset
from workloads.datasets.labels import SHARES, classes_of, label, numbered, split_by_class
from workloads.datasets.preparation import Preparation
from workloads.datasets.sources import Inputs, Source, rows

IMBALANCED = 3.0
"""The largest class over the smallest, from which on it is said."""
ENOUGH_TO_COUNT = 1000
"""Validation examples from which on errors tell trials apart; below, cross-entropies do."""


@dataclasses.dataclass(frozen=True)
class Examples:
    """Splits as a net takes them.

    Attributes:
      source: as it was read.
      classes: [classes] labels, ascending.
      preparation: of inputs.
      splits: ``train``, ``validation``, ``test`` -> (inputs float32 [n, ...], classes int32 [n]).
      raw_test: test inputs as the source gives them.
      noted: sentences on leakage and balance.
      copies: pairs of examples of two splits with equal inputs.
    """

    source: Source
    classes: np.ndarray
    preparation: Preparation
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]]
    raw_test: Inputs
    noted: Sequence[str]
    copies: int

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a prepared example."""
        return self.splits["train"][0].shape[1:]

    @property
    def metric(self) -> str:
        """The metric that decides between trials, on validation."""
        enough = len(self.splits["validation"][1]) >= ENOUGH_TO_COUNT
        return "classification_error" if enough else "cross_entropy"

    def limited(self, examples: int, seed: int) -> Examples:
        """With so many training examples, about, each class in its share; 0: all."""
        inputs, targets = self.splits["train"]
        if not 0 < examples < len(targets):
            return self
        kept = split_by_class(targets, seed, {"kept": examples / len(targets)})["kept"]
        train = (inputs[kept], targets[kept])
        return dataclasses.replace(self, splits={**self.splits, "train": train})

    def size(self, split: str) -> int:
        """Number of examples of a split."""
        return len(self.splits[split][1])

    def counts(self, split: str) -> np.ndarray:
        """[classes] examples of each class in a split."""
        return np.bincount(self.splits[split][1], minlength=len(self.classes))


def split_source(source: Source, seed: int) -> Examples:
    """Split, check and prepare.

    A split that the source keeps apart for testing stays; the rest is split by class.

    Raises:
      DataError: a target that is continuous, of one class, or with a class too small to split.
    """
    shares = {"validation": SHARES["validation"] / (1 - SHARES["test"])}
    if source.test is None:
        shares = dict(SHARES)
    classes = classes_of(source.targets, len(shares) + 1)
    numbers = numbered(source.targets, classes)
    places = split_by_class(numbers, seed, shares)
    raw: dict[str, Inputs] = {s: rows(source.inputs, own) for s, own in places.items()}
    targets = {split: numbers[own] for split, own in places.items()}
    if source.test is not None:
        raw["test"], targets["test"] = source.test[0], numbered(source.test[1], classes)
    preparation = Preparation.fit(raw["train"])
    names = ("train", "validation", "test")
    splits = {split: (preparation(raw[split]), targets[split]) for split in names}
    copies, leaked = _leakage(source.name, splits)
    noted = [leaked, _balance(classes, targets["train"])]
    return Examples(source, classes, preparation, splits, raw["test"], noted, copies)


def _leakage(name: str, splits: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> tuple[int, str]:
    dataset = Dataset(
        name, {split: {"inputs": x, "targets": y} for split, (x, y) in splits.items()}
    )
    found = [one for one in overlaps(dataset, near=False) if one.split != one.other]
    there = [one for one in found if one.copies]
    if not there:
        return 0, "Leakage: no example of one split is an exact copy of one of another."
    words = ", ".join(f"{o.copies} of {o.examples:,} in {o.split} are in {o.other}" for o in there)
    differ = sum(one.conflicts for one in there)
    rest = f"; of {differ} every copy has another class" if differ else ""
    return sum(one.copies for one in there), (
        f"Leakage: exact copies, {words}{rest}. They make validation and test look better than "
        "new examples will be."
    )


def _balance(classes: np.ndarray, targets: np.ndarray) -> str:
    counts = np.bincount(targets, minlength=len(classes))
    least, most = int(counts.argmin()), int(counts.argmax())
    words = (
        f"{len(classes)} classes, from {counts[least]:,} training examples ({label(classes[least])}"
        f") to {counts[most]:,} ({label(classes[most])})"
    )
    if counts[most] < IMBALANCED * counts[least]:
        return f"Balance: {words}."
    share = counts[most] / counts.sum()
    return (
        f"Balance: {words}. The largest class alone is {share:.1%}: accuracy below that says "
        "nothing, and accuracy above it says little of the small classes."
    )
