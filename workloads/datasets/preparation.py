"""From examples as people have them to arrays for a net, with numbers of the training split alone.

    prepared = Preparation.fit(train_inputs)
    prepared(test_inputs)       # float32 [n, ...]

Numbers are standardised, (x - mean) / deviation: of vectors and tables by column, of images by
channel. A column of texts becomes one column a category, one where it has it (one-hot); a category
that training did not hold is zero in all of them. A column that is constant in training is zero.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from workloads.datasets.base import DataError
from workloads.datasets.sources import Inputs, count, not_finite

MOST_CATEGORIES = 100


@dataclasses.dataclass(frozen=True)
class Preparation:
    """A function of inputs, with the numbers of the training split.

    Attributes:
      shape: of an example as it is given; () of a table.
      columns: of a table, its columns in order -> the categories of one of texts, None of numbers.
      mean, deviation: float64, [columns] or [channels]; of a table of its columns of numbers.
    """

    shape: tuple[int, ...]
    columns: Mapping[str, tuple[str, ...] | None]
    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def fit(cls, inputs: Inputs) -> Preparation:
        """From the training inputs.

        Raises:
          DataError: a column of more than `MOST_CATEGORIES` different texts.
        """
        if not isinstance(inputs, Mapping):
            return cls(inputs.shape[1:], {}, *_moments(_images(inputs)))
        columns: dict[str, tuple[str, ...] | None] = {}
        for name, column in inputs.items():
            texts = column.dtype.kind == "U"
            columns[name] = tuple(np.unique(column).tolist()) if texts else None
            if texts and len(columns[name] or ()) > MOST_CATEGORIES:
                raise DataError(
                    f"column {name} holds {len(columns[name] or ())} different texts, such as "
                    f"{str(column[0])!r}; at most {MOST_CATEGORIES} can be categories: leave it "
                    "out, or group them"
                )
        numbers = [inputs[name] for name, kinds in columns.items() if kinds is None]
        stacked = np.stack(numbers, axis=1) if numbers else np.zeros((count(inputs), 0))
        return cls((), columns, *_moments(stacked))

    def __call__(self, inputs: Inputs) -> np.ndarray:
        """Inputs of a net, float32 [n, ...]: images [n, height, width, channels], else [n, d].

        Raises:
          ValueError: another shape, a column that is missing or of the other kind, a number that
            is not finite.
        """
        for name, example, value in not_finite(inputs):
            where = f"column {name}" if name else "inputs"
            raise ValueError(f"{where} must be finite, got {value} in example {example}")
        if not self.columns:
            if isinstance(inputs, Mapping) or inputs.shape[1:] != self.shape:
                got = list(inputs) if isinstance(inputs, Mapping) else list(inputs.shape)
                raise ValueError(f"inputs must be [n, {_words(self.shape)}], got {got}")
            return self._standardised(_images(inputs))
        if not isinstance(inputs, Mapping):
            raise ValueError(f"inputs must be a table of {', '.join(self.columns)}")  # noqa: TRY004
        return self._table(inputs)

    def _table(self, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        for name, kinds in self.columns.items():
            if name not in inputs:
                raise ValueError(f"inputs must have the column {name}, got {', '.join(inputs)}")
            kind = np.asarray(inputs[name]).dtype.kind
            if (kinds is None) == (kind in "US"):
                what = "numbers" if kinds is None else "texts"
                raise ValueError(
                    f"column {name} must hold {what}, got {np.asarray(inputs[name])[0].item()!r}"
                )
        numbers = [np.asarray(inputs[n], float) for n, kinds in self.columns.items() if not kinds]
        parts = [self._standardised(np.stack(numbers, axis=1))] if numbers else []
        for name, kinds in self.columns.items():
            if kinds is not None:
                column = np.asarray(inputs[name])[:, None]
                parts.append((column == np.array(kinds)[None, :]).astype(np.float32))
        return np.concatenate(parts, axis=1)

    def _standardised(self, values: np.ndarray) -> np.ndarray:
        shape = (1,) * (values.ndim - 1) + (-1,)
        divisor = np.where(self.deviation > 0, self.deviation, np.inf)
        # Dates and large counts differ in digits that float32 has not.
        wide = np.dtype(np.float32 if np.can_cast(values.dtype, np.float32) else np.float64)
        centred: np.ndarray = values.astype(wide) - self.mean.astype(wide).reshape(shape)
        return (centred / divisor.astype(wide).reshape(shape)).astype(np.float32)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; numbers come back to the bit."""
        return {
            "shape": list(self.shape),
            "columns": [[n, None if k is None else list(k)] for n, k in self.columns.items()],
            "mean": self.mean.tolist(),
            "deviation": self.deviation.tolist(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Preparation:
        """The inverse of `to_json`."""
        columns = {n: None if kinds is None else tuple(kinds) for n, kinds in data["columns"]}
        numbers = (np.array(data[name], float) for name in ("mean", "deviation"))
        return cls(tuple(data["shape"]), columns, *numbers)

    def describe(self) -> str:
        """In words."""
        if not self.columns:
            by = "channel" if len(self.shape) > 1 else "column"
            return f"standardised by {by}"
        texts = [name for name, kinds in self.columns.items() if kinds is not None]
        numbers = len(self.columns) - len(texts)
        words = [f"{numbers} columns of numbers standardised"] if numbers else []
        words += [f"{', '.join(texts)} one-hot"] if texts else []
        return "; ".join(words)


def _images(inputs: np.ndarray) -> np.ndarray:
    """Images [n, height, width] with an axis of channels; others as they are."""
    return inputs[..., None] if inputs.ndim == 3 else inputs


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation over all axes but the last; of a constant exactly zero, where the mean of
    its sum is rounded."""
    axes = tuple(range(values.ndim - 1))
    wide = values.astype(float)
    constant = values.min(axis=axes) == values.max(axis=axes)
    return wide.mean(axis=axes), np.where(constant, 0.0, wide.std(axis=axes))


def _words(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))
