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

import numpy as np
import polars as pl

from experiments.analysis.intervals import NO_ANSWER, Answer
from experiments.analysis.question import TRIAL
from experiments.analysis.searches import search_answer

MOST_DIMENSIONS = 3
"""Searched numbers between which trials are interpolated; a simplex of more has many corners."""
_OUTSIDE = 1e-12
"""Weight below zero of a point that lies on the border, up to rounding."""
_FLAT = 1e-10
"""Volume over that of as long edges at right angles, below which a simplex has no inside."""


@dataclasses.dataclass(frozen=True)
class TrialSurface:
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
        simplices, inverses, origins = self._mesh
        first = np.einsum("sij,sj->si", inverses, point - origins)
        weights = np.column_stack([first, 1 - first.sum(axis=1)])
        simplex = int(np.argmax(weights.min(axis=1)))
        if weights[simplex].min() < -_OUTSIDE:
            return none
        return simplices[simplex], weights[simplex]

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
    def _mesh(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """The simplices between the trials; None where all lie on one line or plane.

        Their corners [s, d + 1], the inverse of their edges from the last corner [s, d, d], which
        gives the weights of the others, and that corner [s, d]. Flat simplices are left out.
        Delaunay's own transform does the same, but threads of BLAS wait for each other in it.
        """
        from scipy.spatial import Delaunay, QhullError

        try:
            simplices = Delaunay(self.points).simplices
        except QhullError:
            return None
        corners = self.points[simplices]
        edges = (corners[:, :-1] - corners[:, -1:]).transpose(0, 2, 1)
        size = np.prod(np.linalg.norm(edges, axis=1), axis=1)
        solid = np.abs(np.linalg.det(edges)) > _FLAT * size
        if not solid.any():
            return None
        return simplices[solid], np.linalg.inv(edges[solid]), corners[solid, -1]
