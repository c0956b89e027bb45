"""The exact interval of a share, from how often it was counted (Clopper and Pearson 1934)."""

from __future__ import annotations

from experiments.analysis.intervals import CONFIDENCE, Interval


def exact_share(counted: int, examples: int, confidence: float = CONFIDENCE) -> Interval:
    """Shares at which ``counted`` or more, and ``counted`` or fewer, each have at least
    (1 - confidence) / 2 of a chance.

    Args:
      counted: of ``examples`` independent ones, in 0..examples.
      confidence: least probability of covering, whatever the share.

    Raises:
      ValueError: no example, or more counted than there are.
    """
    from scipy.special import betaincinv

    if not 0 <= counted <= examples or not examples:
        raise ValueError(f"counted must lie in 0..{examples} of 1 or more, got {counted!r}")
    tail = (1 - confidence) / 2
    low = float(betaincinv(counted, examples - counted + 1, tail)) if counted else 0.0
    others = examples - counted
    high = float(betaincinv(counted + 1, others, 1 - tail)) if others else 1.0
    return Interval(low, high, confidence)
