"""The examples of an automl: split by class, checked, prepared without the test split.

Of many examples one split validates. Of few, cross-validation uses every one for both: `FOLDS` nets
train side by side (`workloads.models.folds.Folds`), each on all folds but its own, on which it is
validated. The splits ``train`` and ``validation`` are then the same examples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.diagnostics.overlap import overlaps
from experiments.training.feed import is_streamed
from workloads.datasets.base import Dataset
from workloads.datasets.labels import (
    SHARES,
    classes_of,
    folds_by_class,
    label,
    numbered,
    split_by_class,
)
from workloads.datasets.preparation import Preparation
from workloads.datasets.sources import Inputs, Source, rows

IMBALANCED = 3.0
"""The largest class over the smallest, from which on it is said."""
ENOUGH_TO_COUNT = 1000
"""Validation examples from which on errors tell trials apart; below, cross-entropies do."""
FOLDED_BELOW, FOLDS = 1000, 5
"""Examples besides the test split below which there are folds, and how many."""


@dataclasses.dataclass(frozen=True)
class Remark:
    """A property of the data that was looked at.

    Attributes:
      subject: one word.
      text: a sentence.
      doubtful: whether results are to be doubted because of it.
    """

    subject: str
    text: str
    doubtful: bool


@dataclasses.dataclass(frozen=True)
class Examples:
    """Splits as a net takes them.

    Attributes:
      source: as it was read.
      classes: [classes] labels, ascending.
      preparation: of inputs.
      splits: ``train``, ``validation``, ``test`` -> (inputs float32 [n, ...], classes int32 [n]).
      raw_test: test inputs as the source gives them.
      remarks: on leakage and balance.
      copies: pairs of examples of two splits with equal inputs.
      folds: [n] the fold of each example besides test; None where one split validates.
      left_out: training examples that a search does not train on (`limited`).
    """

    source: Source
    classes: np.ndarray
    preparation: Preparation
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]]
    raw_test: Inputs
    remarks: Sequence[Remark]
    copies: int
    folds: np.ndarray | None = None
    left_out: tuple[np.ndarray, np.ndarray] | None = None

    @property
    def nets(self) -> int:
        """Nets of a trial: one a fold."""
        return 1 if self.folds is None else FOLDS

    @property
    def losses(self) -> str | None:
        """Of the search's trials; None: those of classes."""
        return None if self.folds is None else "workloads.losses:FOLDED"

    @property
    def searched(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Data of the search: targets say which nets an example belongs to, where there are folds
        (`workloads.losses.FOLDED`)."""
        if self.folds is None:
            return {split: self.splits[split] for split in ("train", "validation")}
        inputs, labels = self.splits["train"]
        own = self.folds[:, None] == np.arange(FOLDS)
        nets = {"train": ~own, "validation": own}
        return {
            split: (inputs, np.column_stack([labels, mine]).astype(np.int32))
            for split, mine in nets.items()
        }

    @property
    def development(self) -> tuple[np.ndarray, np.ndarray]:
        """(inputs, labels) of all examples besides test."""
        if self.folds is not None:
            return self.splits["train"]
        parts = [self.splits["train"], self.splits["validation"]]
        inputs, labels = zip(*parts, *filter(None, [self.left_out]), strict=True)
        return np.concatenate(inputs), np.concatenate(labels)

    @property
    def refits(self) -> bool:
        """Tell whether validation examples can train too in the end: one split validates, and the
        training split lies on the device."""
        inputs, targets = self.splits["train"]
        return self.folds is None and not is_streamed({"inputs": inputs, "targets": targets})

    @property
    def growth(self) -> float:
        """Training and validation examples over training examples; 0 where `refits` is False."""
        train, validation = self.size("train"), self.size("validation")
        return (train + validation) / train if self.refits else 0.0

    @property
    def sizes(self) -> str:
        """The sizes of the splits, in words."""
        if self.folds is None:
            return ", ".join(f"{self.size(s):,} {s}" for s in ("train", "validation", "test"))
        return f"{self.size('train'):,} in {FOLDS} folds, {self.size('test'):,} test"

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
        others = np.setdiff1d(np.arange(len(targets)), kept)
        return dataclasses.replace(
            self,
            splits={**self.splits, "train": (inputs[kept], targets[kept])},
            left_out=(inputs[others], targets[others]),
        )

    def size(self, split: str) -> int:
        """Number of examples of a split."""
        return len(self.splits[split][1])

    def counts(self, split: str) -> np.ndarray:
        """[classes] examples of each class in a split."""
        return np.bincount(self.splits[split][1], minlength=len(self.classes))


def split_source(source: Source, seed: int) -> Examples:
    """Split, check and prepare.

    A split that the source keeps apart for testing stays; the rest is split by class.

    Args:
      source: as it was read.
      seed: of the split.

    Raises:
      DataError: a target that is continuous, of one class, or with a class too small to split.
    """
    shares = {"validation": SHARES["validation"] / (1 - SHARES["test"])}
    if source.test is None:
        shares = dict(SHARES)
    classes = classes_of(source.targets, len(shares) + 1)
    numbers = numbered(source.targets, classes)
    places = split_by_class(numbers, seed, shares)
    folds = None
    if len(places["train"]) + len(places["validation"]) < FOLDED_BELOW:
        together = np.sort(np.concatenate([places["train"], places["validation"]]))
        folds = folds_by_class(numbers[together], seed, FOLDS)
        places = {**places, "train": together, "validation": together}
    raw: dict[str, Inputs] = {s: rows(source.inputs, own) for s, own in places.items()}
    targets = {split: numbers[own] for split, own in places.items()}
    if source.test is not None:
        raw["test"], targets["test"] = source.test[0], numbered(source.test[1], classes)
    preparation = Preparation.fit(raw["train"])
    names = ("train", "validation", "test")
    splits = {split: (preparation(raw[split]), targets[split]) for split in names}
    copies, leaked = _leakage(source.name, splits, folds)
    remarks = [leaked, _balance(classes, targets["train"])]
    return Examples(source, classes, preparation, splits, raw["test"], remarks, copies, folds)


def _parts(
    splits: Mapping[str, tuple[np.ndarray, np.ndarray]], folds: np.ndarray | None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Parts that must not share examples: the splits, or the folds and test."""
    if folds is None:
        return dict(splits)
    inputs, labels = splits["train"]
    found = {f"fold {k}": (inputs[folds == k], labels[folds == k]) for k in range(FOLDS)}
    return {**found, "test": splits["test"]}


def _leakage(
    name: str, splits: Mapping[str, tuple[np.ndarray, np.ndarray]], folds: np.ndarray | None
) -> tuple[int, Remark]:
    parts = _parts(splits, folds)
    dataset = Dataset(name, {part: {"inputs": x, "targets": y} for part, (x, y) in parts.items()})
    there = [o for o in overlaps(dataset, near=False) if o.split != o.other and o.copies]
    copies, differ = (sum(getattr(one, own) for one in there) for own in ("copies", "conflicts"))
    if not copies:
        part = "split" if folds is None else "fold or of test"
        text = f"No example of one {part} is an exact copy of one of another."
        return 0, Remark("Leakage", text, doubtful=False)
    words = ", ".join(f"{o.copies} of {o.examples:,} in {o.split} are in {o.other}" for o in there)
    if folds is not None:
        words = f"{copies} pairs of an example and one in another fold or in test"
    rest = f"; of {differ} every copy has another class" if differ else ""
    text = (
        f"Exact copies, {words}{rest}. They make validation and test look better than new "
        "examples will be."
    )
    return copies, Remark("Leakage", text, doubtful=True)


def _balance(classes: np.ndarray, targets: np.ndarray) -> Remark:
    counts = np.bincount(targets, minlength=len(classes))
    least, most = int(counts.argmin()), int(counts.argmax())
    words = (
        f"{len(classes)} classes, from {counts[least]:,} training examples ({label(classes[least])}"
        f") to {counts[most]:,} ({label(classes[most])})"
    )
    if counts[most] < IMBALANCED * counts[least]:
        return Remark("Balance", f"{words}.", doubtful=False)
    share = counts[most] / counts.sum()
    text = (
        f"{words}. The largest class alone is {share:.1%}: accuracy below that says nothing, and "
        "accuracy above it says little of the small classes."
    )
    return Remark("Balance", text, doubtful=True)
