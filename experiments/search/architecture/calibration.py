"""Bands for the ends of learning curves that hold as often as they say: split conformal prediction.

The bootstrap of `curves` knows the noise of a fit and the choice between four families, and not how
curves of real training depart from all four: its spread is too small. Here finished curves say by
how much. With v_i and s_i the extrapolation of curve i and the standard deviation of its draws, cut
at the same share of its length, and y_i its end, the scores are

    z_i = (y_i - v_i) / s_i,    i = 1 .. n

and the end of a further curve is predicted as v + s z_i, each with a share of 1 / (n + 1). The band
of level 1 - a goes from the floor((n + 1) a / 2)-th of them to the ceil((n + 1) (1 - a / 2))-th: if
the curve and the n finished ones come in random order from one source, it holds the end with
probability at least 1 - a, whatever families, noise and training are (Papadopoulos et al. 2002; Lei
et al. 2018, Distribution-free predictive inference for regression, JASA 113; the distribution is
that of Vovk et al. 2018, Cross-conformal predictive distributions, PMLR 91). Of another source it
may hold it less often: docs/architecture_search.md has what was measured.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from experiments.search.architecture.calibrated import SCORES
from experiments.search.architecture.curves import Extrapolation


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Scores of finished curves.

    Attributes:
      scores: float64 [n], sorted.
    """

    scores: np.ndarray

    @classmethod
    def of(cls, curves: Sequence[Extrapolation], ends: np.ndarray) -> Calibration:
        """From finished curves: what was extrapolated at one share of each, and its end [n].

        Raises:
          ValueError: no curves, or not one end a curve.
        """
        if not len(curves) or len(curves) != len(ends):
            raise ValueError(f"as many ends as curves, at least one: {len(ends)} of {len(curves)}")
        values, scales = (np.array([getattr(c, k) for c in curves]) for k in ("value", "scale"))
        return cls(np.sort((np.asarray(ends, float) - values) / scales))

    @classmethod
    def at(cls, share: float) -> Calibration:
        """That of the curves of docs/architecture_search.md, cut nearest to ``share``."""
        nearest = min(SCORES, key=lambda known: abs(math.log(known / share)))
        return cls(np.asarray(SCORES[nearest]))

    def band(self, curve: Extrapolation, *, level: float = 0.9) -> tuple[float, float]:
        """(low, high) that hold the end with probability ``level``; infinite where n is too small.

        Raises:
          ValueError: a level outside (0, 1).
        """
        if not 0 < level < 1:
            raise ValueError(f"level must lie in (0, 1), got {level}")
        count, tail = len(self.scores), (1.0 - level) / 2
        # The rounding of (n + 1) a / 2 is not to move a rank that is whole.
        low = math.floor((count + 1) * tail + 1e-9)
        high = math.ceil((count + 1) * (1 - tail) - 1e-9)
        ends = np.concatenate([[-np.inf], self.scores, [np.inf]])
        return (
            float(curve.value + curve.scale * ends[low]),
            float(curve.value + curve.scale * ends[min(high, count + 1)]),
        )

    def probability_below(self, curve: Extrapolation, value: float) -> float:
        """P(end < value), kept off 0 and 1 by half a share."""
        below = float((curve.value + curve.scale * self.scores < value).sum())
        return (below + 0.5) / (len(self.scores) + 1.0)

    def worth_going_on(
        self, curve: Extrapolation, incumbent: float, *, margin: float = 0.0, below: float = 0.05
    ) -> bool:
        """Tell whether a run may beat the incumbent: P(end < incumbent + margin) >= ``below``."""
        return self.probability_below(curve, incumbent + margin) >= below
