"""Coarse to fine, all batch sizes together: a quadratic model in a box that narrows by itself.

The first round is quasi-random over the whole space, other points at every batch size. From then
on, at each batch size B, in the coordinates in which the optimum moves least (`coordinates`):

1. The centre is the best trial of B; beside it, the place where the line through all batch sizes'
   good trials over log2 B, weighted towards B's neighbours, says that the optimum is.
2. The box's half width in each coordinate is `WIDTH` standard deviations of the good trials of B
   and its neighbours about their own bests: it narrows as they agree, and fast where the excess
   rises fast (the effective rate) but not where it hardly rises (the momentum).
3. A quadratic in the coordinates and log2 B is fitted by weighted least squares to the excess
   (log2 steps over the best of the trial's batch size), with most weight on what is near in all
   of these and good.
4. Of random candidates about both centres those are taken that it says are best, each with a
   penalty for being close to a known point.

So neighbours share their good points, moved along the curve of optima. Coarse to fine is what
CS231n and the Tuning Playbook advise; the model is response surface methodology (Box & Wilson
1951). The constants were chosen on the noisy quadratic model (benchmarks/search.py), on seeds
other than those that are reported.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from experiments.search.samplers.base import Ask, Box, Proposal, Seen, excesses
from experiments.search.samplers.boxes import widened
from experiments.search.samplers.coordinates import Coordinates, coordinates
from experiments.search.samplers.distinct import Picker, proposal
from experiments.search.samplers.halton import halton
from experiments.search.samplers.streams import uniforms
from experiments.spec.space import Choice


@dataclasses.dataclass(frozen=True)
class Settings:
    """Constants of the sampler, and its parts, which the benchmark leaves out one by one.

    Attributes:
      reach: octaves of batch size at which a neighbour's weight has fallen to exp(-1/2).
      good: excess, in log2 steps, at which a trial's say on where the optimum lies falls to 1/e.
      near: the same for its weight in the quadratic's fit; `far` is the least weight.
      cap: excess above which the fit does not care how bad a trial is.
      width: half width of the box in standard deviations of the good trials.
      narrowest, widest: bounds of the half width, as fractions of a coordinate's range.
      ridge: of the quadratic's coefficients, per unit of weight.
      apart, apart_first: distance to known points, in half widths, below which a candidate is
        penalised, for a round's first point and its others.
      candidates: candidates a batch size.
      neighbours: whether batch sizes share trials.
      moved: whether coordinates are those in which the optimum moves least.
      spread: whether batch sizes begin at different points.
      model: whether the quadratic says which candidates are taken, or only their distance to
        known points.
    """

    reach: float = 2.5
    good: float = 0.6
    near: float = 0.5
    far: float = 0.01
    cap: float = 4.0
    width: float = 1.7
    narrowest: float = 0.02
    widest: float = 0.3
    ridge: float = 1e-3
    apart_first: float = 0.3
    apart: float = 0.7
    candidates: int = 800
    neighbours: bool = True
    moved: bool = True
    spread: bool = True
    model: bool = True


SETTINGS = Settings()


def propose(ask: Ask, settings: Settings = SETTINGS) -> Proposal:
    """The next round's points at every batch size."""
    boxes = {batch_size: widened(ask, batch_size) for batch_size in ask.counts}
    known = _Known(ask, settings)
    pickers = []
    for batch_size in ask.counts:
        picker = Picker(ask, batch_size)
        if not ask.of(batch_size) or not known.any_reached:
            first_points(ask, picker, settings)
        else:
            _narrowed(ask, picker, known, boxes[batch_size], settings)
        pickers.append(picker)
    return proposal(ask, pickers, boxes)


def first_points(ask: Ask, picker: Picker, settings: Settings = SETTINGS) -> None:
    """The next points of the Halton sequence, none of which another batch size takes."""
    begin = len(ask.of(picker.batch_size))
    if settings.spread:
        begin = len(ask.seen) + sum(n for b, n in ask.counts.items() if b < picker.batch_size)
    for row in halton(ask.seed, begin + np.arange(8 * picker.wanted), len(ask.space)):
        picker.offer(row, "quasi-random")


class _Known:
    """Earlier trials as arrays: coordinates [k, d], log2 batch size, excess, deviation [k, d]."""

    def __init__(self, ask: Ask, settings: Settings):
        self.trials: list[Seen] = ask.in_order
        self.any_reached = any(trial.outcome == "reached" for trial in self.trials)
        self.map: Coordinates = coordinates(ask.space, ask.coordinates if settings.moved else ())
        points = np.array([trial.point for trial in self.trials]).reshape(-1, len(ask.space))
        self.points = self.map.of(points)
        self.log_batch = np.log2(np.array([float(trial.batch_size) for trial in self.trials]))
        self.excess = excesses(ask, self.trials)
        self.deviation = np.zeros_like(self.points)
        for value in np.unique(self.log_batch):
            rows = np.flatnonzero(self.log_batch == value)
            best = rows[np.argmin(self.excess[rows])]
            self.deviation[rows] = self.points[rows] - self.points[best]

    def weights(self, batch_size: int, settings: Settings) -> np.ndarray:
        """[k] how near each trial's batch size is."""
        octaves = self.log_batch - np.log2(batch_size)
        if not settings.neighbours:
            return (octaves == 0).astype(float)
        return np.exp(-0.5 * (octaves / settings.reach) ** 2)


def _narrowed(ask: Ask, picker: Picker, known: _Known, box: Box, settings: Settings) -> None:
    """Points that the model says are good, about the best trial and about the line of optima."""
    octaves = known.log_batch - np.log2(picker.batch_size)
    near = known.weights(picker.batch_size, settings)
    good = near * np.exp(-known.excess / settings.good)
    on_line = _line(known.points, octaves, good)
    own = np.flatnonzero(octaves == 0)
    best = own[np.argmin(known.excess[own])]
    reached = known.trials[best].outcome == "reached"
    centre = known.points[best] if reached else on_line
    width = _half_widths(known, good, settings)

    keys = (ask.seed, ask.round, picker.batch_size)
    shape = (settings.candidates, len(width))
    drawn = centre + (2 * uniforms("rounds", *keys, shape=shape) - 1) * width
    drawn[::2] += on_line - centre
    low, high = np.array(box).T
    positions = np.clip(known.map.positions(drawn), low, high)
    _choices(ask, positions, known.map.positions(centre))
    candidates = known.map.of(positions)

    offset = (known.points - centre) / width
    weight = near * np.maximum(np.exp(-known.excess / settings.near), settings.far)
    weight = weight * np.maximum(np.exp(-((offset**2).sum(-1)) / 8), 1e-6)
    target = np.minimum(known.excess, settings.cap)
    model = _fit(_terms(offset, octaves / 2), target, weight, settings.ridge)
    predicted = _terms((candidates - centre) / width, np.zeros(len(candidates))) @ model
    if not settings.model:
        predicted = np.zeros(len(candidates))

    used = known.points[own] / width
    for apart in [settings.apart_first] + [settings.apart] * (8 * picker.wanted):
        if picker.full:
            break
        distance = np.sqrt(((candidates[:, None] / width - used) ** 2).sum(-1)).min(-1)
        chosen = int(np.argmin(predicted + np.maximum(0.0, apart - distance)))
        picker.offer(positions[chosen], "model" if chosen % 2 else "neighbours")
        predicted[chosen] = np.inf
        used = np.vstack([used, candidates[chosen] / width])


def _line(points: np.ndarray, octaves: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[d] where the weighted line of ``points`` over ``octaves`` is at 0 octaves."""
    terms = np.stack([np.ones_like(octaves), octaves / 2], -1)
    return _solve(terms, points, weight, np.diag([0.0, 0.1]))[0]


def _half_widths(known: _Known, good: np.ndarray, settings: Settings) -> np.ndarray:
    """[d] half widths of the box from the spread of the good trials about their bests."""
    groups = len(np.unique(known.log_batch))
    count = len(good) / max(len(good) - groups, 1)  # each group's best has no deviation
    variance = (good[:, None] * known.deviation**2).sum(0) / good.sum() * count
    return np.clip(settings.width * np.sqrt(variance), settings.narrowest, settings.widest)


def _terms(offset: np.ndarray, octaves: np.ndarray) -> np.ndarray:
    """[k, terms] of a full quadratic in d offsets and the octaves."""
    full = np.concatenate([np.ones((len(offset), 1)), offset, octaves[:, None]], axis=-1)
    rows, columns = np.triu_indices(full.shape[1])
    return full[:, rows] * full[:, columns]


def _fit(terms: np.ndarray, target: np.ndarray, weight: np.ndarray, ridge: float) -> np.ndarray:
    penalty = np.full(terms.shape[1], ridge)
    penalty[0] = 0.0
    return _solve(terms, target, weight, np.diag(penalty))


def _solve(
    terms: np.ndarray, target: np.ndarray, weight: np.ndarray, penalty: np.ndarray
) -> np.ndarray:
    """Weighted least squares with a penalty per unit of weight."""
    weighted = terms * (weight / weight.sum())[:, None]
    normal = weighted.T @ terms + penalty + 1e-12 * np.eye(terms.shape[1])
    return np.linalg.solve(normal, weighted.T @ target)


def _choices(ask: Ask, positions: np.ndarray, centre: np.ndarray) -> None:
    """Of unordered choices most candidates keep the centre's and the rest take any."""
    for column, name in enumerate(ask.names):
        if isinstance(ask.space[name], Choice):
            drawn = uniforms("choice", ask.seed, ask.round, column, shape=(len(positions), 2))
            keep = drawn[:, 0] * (1 + len(ask.space)) >= 1
            positions[:, column] = np.where(keep, np.clip(centre[column], 0, 1), drawn[:, 1])
