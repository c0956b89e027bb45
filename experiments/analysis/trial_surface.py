"""The trials of one batch size as a surface of steps over what was searched.

Log steps are interpolated linearly between the trials around a point (Delaunay simplices; positions
on the scales that were searched). Nothing is extrapolated: outside the trials the steps are not
known, and beside a trial that did not get there they are known from below alone.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from experiments.analysis.intervals import NO_ANSWER, Answer
from experiments.analysis.question import TRIAL
from experiments.analysis.searches import search_answer

MOST_DIMENSIONS = 3
"""Searched numbers between which trials are interpolated; a simplex of more has many corners."""


@dataclasses.dataclass(frozen=True)
class Surface:
    """The trials of one batch size as a surface of steps over the search space.

    Attributes:
      names: searched numbers, the coordinates of ``points``.
      points: [n, d] positions of the trials.
      answers: steps to the goal of each.
      trials: their hyperparameters, rows of the trials table.
    """

    names: tuple[str, ...]
    points: np.ndarray
    answers: Sequence[Answer]
    trials: pl.DataFrame

    def column(self, name: str) -> np.ndarray:
        """[n] one hyperparameter of the trials."""
        return self._columns[name]

    @functools.cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        names = [name for name in self.trials.columns if name not in TRIAL]
        return {name: self.trials[name].to_numpy().astype(float) for name in names}

    def best(self) -> Answer:
        """The fewest steps of any trial."""
        return search_answer(self.answers)

    def at(self, point: np.ndarray) -> Answer:
        """The steps interpolated at ``point`` [d]; NO_ANSWER outside the trials."""
        corners, weights = self._around(point)
        if not len(corners):
            return NO_ANSWER
        used = [(self.answers[i], w) for i, w in zip(corners, weights, strict=True) if w > 1e-9]
        if any(math.isinf(answer.high) for answer, _ in used):
            return Answer(max(min(answer.low for answer, _ in used), 1.0), math.inf)
        steps = 2 ** sum(w * math.log2(answer.high) for answer, w in used)
        return Answer.exactly(float(steps))

    def _around(self, point: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(corners of the simplex of trials around a point, their weights), empty for none."""
        none = np.array([], int), np.array([])
        dimensions = self.points.shape[1]
        if not 1 <= dimensions <= MOST_DIMENSIONS or len(self.points) <= dimensions:
            return none
        if dimensions == 1:
            return self._between(point[0])
        if self._mesh is None:
            return none
        simplex = int(self._mesh.find_simplex(point[None])[0])
        if simplex < 0:
            return none
        matrix = self._mesh.transform[simplex]
        first = matrix[:dimensions] @ (point - matrix[dimensions])
        return self._mesh.simplices[simplex], np.append(first, 1 - first.sum())

    def _between(self, at: float) -> tuple[np.ndarray, np.ndarray]:
        """The two trials on either side of a point of a line."""
        order = np.argsort(self.points[:, 0], kind="stable")
        line = self.points[order, 0]
        if not line[0] - 1e-9 <= at <= line[-1] + 1e-9:
            return np.array([], int), np.array([])
        after = int(np.clip(np.searchsorted(line, at), 1, len(line) - 1))
        gap = line[after] - line[after - 1]
        share = min(max((at - line[after - 1]) / gap, 0.0), 1.0) if gap > 0 else 0.0
        return order[[after - 1, after]], np.array([1 - share, share])

    @functools.cached_property
    def _mesh(self) -> Any:
        """The simplices between the trials; None where all lie on one line or plane."""
        from scipy.spatial import Delaunay, QhullError

        try:
            return Delaunay(self.points)
        except QhullError:
            return None
