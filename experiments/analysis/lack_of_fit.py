"""The classical lack-of-fit test: do the points of several searches lie on a curve of a form?

R searches at each of n batch sizes give their own error: the spread of log S among the searches of
a batch size, with n (R - 1) degrees of freedom, whatever the curve. The distance of the n means
from the fitted curve of k parameters has n - k. Their ratio of mean squares,

    F = [R sum_B (mean_B - fit_B)^2 / (n - k)] / [sum_B sum_r (y_Br - mean_B)^2 / (n (R - 1))],

has an F distribution where the means lie on the curve and the noise of log S is normal and alike
(Draper & Smith, Applied Regression Analysis; the logarithms of a search's steps are close to that;
tests/analysis/test_lack_of_fit.py has the error of the first kind for minima of trials on a grid).
A curve that is rejected tells its borders wrongly, however narrow their range is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from experiments.analysis.free_sharpness import FEWEST_FOR_SHARPNESS, FreeSharpness
from experiments.analysis.regimes import Points
from experiments.analysis.scaling_curve import Hyperbola

REJECTED = 0.01
"""A curve is said to miss the points where chance would do so less often than this."""


@dataclasses.dataclass(frozen=True)
class LackOfFit:
    """The distance by which the curve misses the means of the searches.

    Attributes:
      ratio: F.
      probability: with which chance alone gives a larger one.
      spread: standard deviation of log S among searches of a batch size.
      distance: root mean square of the means' log S about the curve.
      batch_sizes, misses: [n] log S of the means less that of the curve.
    """

    ratio: float
    probability: float
    spread: float
    distance: float
    batch_sizes: np.ndarray
    misses: np.ndarray

    @property
    def rejected(self) -> bool:
        """Tell whether the points speak against the curve."""
        return self.probability < REJECTED


def lack_of_fit(
    searches: Sequence[Points], kind: type[FreeSharpness | Hyperbola] = FreeSharpness
) -> LackOfFit | None:
    """The test of a curve over the batch sizes at which all searches reached the goal.

    None for one search, or no more such batch sizes than the curve has parameters.
    """
    from scipy.special import fdtrc  # 1 - the F distribution function

    if len(searches) < 2:
        return None
    known = searches[0][0]
    x = np.array([b for b in known if all(np.isfinite(_at(points, b)) for points in searches)])
    free = kind is FreeSharpness and len(x) >= FEWEST_FOR_SHARPNESS
    parameters = 3 if free else 2
    if len(x) <= parameters:
        return None
    y = np.log([[_at(points, b) for b in x] for points in searches])
    count, n = y.shape
    means = y.mean(axis=0)
    misses = means - np.log(kind.fit(x, np.exp(means)).steps(x))
    error = float(((y - means) ** 2).sum() / (n * (count - 1)))
    lack = float(count * (misses**2).sum() / (n - parameters))
    if error == 0:  # searches that agree to the digit: nothing to hold the curve against
        return None
    ratio = lack / error
    probability = float(fdtrc(n - parameters, n * (count - 1), ratio))
    distance = float(np.sqrt((misses**2).mean()))
    return LackOfFit(ratio, probability, error**0.5, distance, x, misses)


def _at(points: Points, batch_size: float) -> float:
    """The steps of a search at a batch size; infinite where it has none."""
    batch_sizes, steps = points
    found = steps[batch_sizes == batch_size]
    return float(found[0]) if len(found) else np.inf
