"""First step below a goal of the noisy quadratic model with momentum: exact and fast.

The model is that of workloads.oracles.recursions.py (Zhang et al. 2019). In a dimension of
eigenvalue h, with x = rate h, momentum b and n = rate^2 h / B, the parameter's impulse response is
U_0 = 1, U_{-1} = 0, U_{t+1} = p U_t - b U_{t-1}, p = 1 - x + b, and

    E[theta_t^2] = (U_t - b U_{t-1})^2 + n sum_{k<t} U_k^2,
    sum_{k<t} U_k^2 = A - (A U_t^2 - 2 A p b / (1+b) U_t U_{t-1} + A b^2 U_{t-1}^2),
    A = (1+b) / ((1-b) x (2 (1+b) - x)),

(the sum's tail is the quadratic form that solves its Lyapunov equation), so the expected loss at
any step costs a few products once U is known there, and U_{s+t} = U_s U_t - b U_{s-1} U_{t-1}.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from workloads.oracles.recursions import Spectrum, binned_spectrum

CHUNK = 128
"""Trials evaluated at once: their arrays stay in a core's cache."""
SCAN = 160
"""Steps looked at, unless told, in the half below a crossing found by bisection."""
EXACT = 1 << 14
"""As many steps of that half are looked at that the first crossing is exact (tested): where it
takes more than twice as many steps to the goal, the loss no longer oscillates."""
DIVERGED = 1e30
"""Expected loss at which a trial counts as INFEASIBLE (float32 ends at 3e38)."""


@dataclasses.dataclass(frozen=True)
class TrialEnds:
    """How trials end, each [m].

    Attributes:
      crossing: first step whose expected loss is below the goal; 0 where none is.
      divergence: a step whose expected loss is above `DIVERGED`, at most twice the first; 0 where
        there is none.
    """

    crossing: np.ndarray
    divergence: np.ndarray


class _Response:
    """U_t and U_{t-1} of a chunk of trials, [m, n] each, and the expected loss there."""

    def __init__(self, spectrum: Spectrum, batch_size: np.ndarray, rate: np.ndarray, b: np.ndarray):
        kept = spectrum.counts > 0
        h, counts = spectrum.eigenvalues[kept], spectrum.counts[kept]
        x = rate[:, None] * h
        self.b = b = np.broadcast_to(b[:, None], x.shape)
        self.p = 1 - x + b
        n = rate[:, None] ** 2 * h / batch_size[:, None]
        a = (1 + b) / ((1 - b) * x * (2 * (1 + b) - x))
        weight = 0.5 * h * counts
        # loss = constant + sum of (square, cross, past) . (U_t^2, U_t U_{t-1}, U_{t-1}^2)
        self.constant = (weight * n * a).sum(-1)
        self.square = weight * (1 - n * a)
        self.cross = weight * (2 * n * a * self.p / (1 + b) - 2) * b
        self.past = weight * (1 - n * a) * b**2

    def loss(self, u: np.ndarray, before: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        terms = (self.square[rows] * u + self.cross[rows] * before) * u
        return self.constant[rows] + (terms + self.past[rows] * before**2).sum(-1)

    def ahead(
        self, u: np.ndarray, before: np.ndarray, power: tuple[np.ndarray, ...]
    ) -> tuple[np.ndarray, np.ndarray]:
        """U at t + s from (U_t, U_{t-1}) and power = (U_s, U_{s-1}, U_{s-2})."""
        now, one, two = power
        return now * u - self.b * one * before, one * u - self.b * two * before

    def power(self, steps: np.ndarray) -> tuple[np.ndarray, ...]:
        """(U_s, U_{s-1}, U_{s-2}) at each trial's own s >= 1, by the bits of s."""
        u, before = np.ones_like(self.p), np.zeros_like(self.p)
        for k, power in enumerate(self.doublings(int(np.max(steps)).bit_length())):
            taken = ((steps >> k) & 1).astype(bool)[:, None]
            new, new_before = self.ahead(u, before, power)
            u, before = np.where(taken, new, u), np.where(taken, new_before, before)
        return u, before, (self.p * before - u) / np.where(self.b == 0, np.inf, self.b)

    def doublings(self, count: int) -> list[tuple[np.ndarray, ...]]:
        """(U_s, U_{s-1}, U_{s-2}) for s = 1, 2, 4, ..."""
        now, one, two = self.p, np.ones_like(self.p), np.zeros_like(self.p)
        powers = [(now, one, two)]
        for _ in range(count - 1):
            now, one, two = (
                now**2 - self.b * one**2,
                one * (now - self.b * two),
                one**2 - self.b * two**2,
            )
            powers.append((now, one, two))
        return powers


def first_crossing(
    batch_sizes: np.ndarray,
    rates: np.ndarray,
    momenta: np.ndarray,
    caps: np.ndarray,
    *,
    goal: float = 0.01,
    spectrum: Spectrum | None = None,
    scan: int = SCAN,
) -> TrialEnds:
    """How trials of ``caps`` steps end; all arguments are [m].

    The loss is looked at at 2^k and 1.5 x 2^k, the first of these below the goal is refined by
    bisection, and the half below that step is looked through in ``scan`` strides for an earlier
    crossing (momentum makes the loss oscillate); up to step 2 ``scan`` that is every step.
    """
    spectrum = spectrum or binned_spectrum()
    crossing = np.zeros(len(rates), np.int64)
    divergence = np.zeros(len(rates), np.int64)
    order = np.argsort(caps, kind="stable")  # trials of a chunk need alike numbers of doublings
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        for begin in range(0, len(order), CHUNK):
            rows = order[begin : begin + CHUNK]
            response = _Response(spectrum, batch_sizes[rows], rates[rows], momenta[rows])
            crossing[rows], divergence[rows] = _ends(response, caps[rows], goal, scan)
    return TrialEnds(crossing, divergence)


def _ends(
    response: _Response, caps: np.ndarray, goal: float, scan: int
) -> tuple[np.ndarray, np.ndarray]:
    everything = slice(None)
    powers = response.doublings(int(caps.max()).bit_length() + 1)
    m = len(caps)
    below, above = np.zeros(m, np.int64), np.zeros(m, np.int64)
    divergence = np.zeros(m, np.int64)
    for k, power in enumerate(powers):
        points = [(2**k, power[0], power[1])]
        if k >= 1:
            points.append((3 * 2 ** (k - 1), *response.ahead(*power[:2], powers[k - 1])))
        for step, u, before in points:
            loss = response.loss(u, before, everything)
            open_ = (below == 0) & (divergence == 0)
            divergence[open_ & ~(loss < DIVERGED) & (step <= 2 * caps)] = step
            hit = open_ & (loss < goal)
            below[hit] = step
            above[open_ & ~hit] = step
    below = _bisect(response, powers, above, below, goal)
    below = _earlier(response, below, goal, scan)
    crossed = (below > 0) & (below <= caps)
    return np.where(crossed, below, 0), np.where(crossed, 0, np.minimum(divergence, caps))


def _bisect(
    response: _Response,
    powers: list[tuple[np.ndarray, ...]],
    above: np.ndarray,
    below: np.ndarray,
    goal: float,
) -> np.ndarray:
    """A first step below the goal in (above, below], 0 where below is 0; above is not below it."""
    start = np.where((below > 0) & (above > 0), above, 0)
    u, before = np.ones_like(response.p), np.zeros_like(response.p)
    for k, power in enumerate(powers):
        taken = ((start >> k) & 1).astype(bool)[:, None]
        new, new_before = response.ahead(u, before, power)
        u, before = np.where(taken, new, u), np.where(taken, new_before, before)
    for k in reversed(range(int((below - start).max()).bit_length())):
        new, new_before = response.ahead(u, before, powers[k])
        loss = response.loss(new, new_before, slice(None))
        step = (start + 2**k < below) & ~(loss < goal)
        start = start + np.where(step, 2**k, 0)
        u = np.where(step[:, None], new, u)
        before = np.where(step[:, None], new_before, before)
    return np.where(below > 0, start + 1, 0)


def _earlier(response: _Response, below: np.ndarray, goal: float, scan: int) -> np.ndarray:
    """An earlier step below the goal than ``below`` [m] in the half before it, or ``below``."""
    if not below.any():
        return below
    begin = below // 2
    stride = np.maximum(1, (below - begin) // scan)
    power = response.power(stride)
    u, before, _ = response.power(np.maximum(begin, 1))
    found = below.copy()
    at = np.maximum(begin, 1)
    for _ in range(int(((below - begin) // stride).max())):
        hit = (found == below) & (at < below) & (response.loss(u, before, slice(None)) < goal)
        found[hit] = at[hit]
        u, before = response.ahead(u, before, power)
        at = at + stride
    return found
