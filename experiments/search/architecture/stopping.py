"""A search that stops runs by extrapolation, replayed on finished curves: its regret and its cost.

Runs come one after the other. At each of some cuts of its curve a run is stopped if the probability
that its end beats the incumbent, the best end so far, is below a level.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.search.architecture.calibration import Calibration
from experiments.search.architecture.curves import Extrapolation


@dataclasses.dataclass(frozen=True)
class Replay:
    """One order of the runs.

    Attributes:
      regret: the best end found over the best of all runs; 0 if it was found.
      cost: share of all training that was done.
      stopped: runs that were.
      wrongly: those of them whose end would have beaten the incumbent.
    """

    regret: float
    cost: float
    stopped: int
    wrongly: int


def replayed(
    ends: np.ndarray,
    curves: Mapping[float, Sequence[Extrapolation | None]],
    order: Sequence[int],
    calibrations: Mapping[float, Calibration],
    *,
    below: float = 0.05,
) -> Replay:
    """Replay runs in an order.

    Args:
      ends: [runs] their last values; less is better.
      curves: share of a run -> what was known of the end of each run there; None: nothing yet.
      order: of the runs.
      calibrations: share -> scores of other, finished curves.
      below: P(end < incumbent) under which a run stops.
    """
    incumbent, cost, stopped, wrongly = np.inf, 0.0, 0, 0
    for run in order:
        for share in sorted(curves):
            known = curves[share][run]
            if known is None or not np.isfinite(incumbent):
                continue
            if not calibrations[share].worth_going_on(known, float(incumbent), below=below):
                stopped += 1
                wrongly += bool(ends[run] < incumbent)
                cost += share
                break
        else:
            cost += 1.0
            incumbent = min(incumbent, float(ends[run]))
    return Replay(float(incumbent - np.min(ends)), cost / len(order), stopped, wrongly)
