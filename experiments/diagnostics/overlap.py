"""Examples that two splits share: exact copies by hash, near copies by distance.

A copy has equal inputs, whatever its target. A near copy of numbers differs by a root mean square
of at most `NEAR` standard deviations of all numbers; one of tokens in at most `TOKENS` of its
places. Both are found exactly, by comparing every pair: a fraction of an edit that moves content
(a shift, a crop) is not looked for.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping

import numpy as np

from workloads.datasets.base import Dataset, Split, read, size_of

NEAR = 0.05
TOKENS = 3
MOST_EXAMPLES = 60_000
"""Of a split are hashed; so many bytes of one at most: `MOST_BYTES`."""
MOST_BYTES = 256 << 20
MOST_PAIRS = 2 << 26
"""Pairs compared for near copies; of larger splits the first examples."""
_BLOCK = 1024


@dataclasses.dataclass(frozen=True)
class Overlap:
    """Examples of one split that occur in another.

    Attributes:
      split, other: the splits; equal where one repeats itself.
      examples, others: examples looked at, of each.
      copies: examples of ``split`` whose inputs are in ``other`` (within one: earlier in it).
      conflicts: of these, whose target differs from that of every copy.
      compared, compared_with: examples compared for near copies.
      near: of these, with a near copy that is no copy.
      places: some of ``copies``: (place in split, place in other).
    """

    split: str
    other: str
    examples: int
    others: int
    copies: int
    conflicts: int
    compared: int
    compared_with: int
    near: int
    places: list[tuple[int, int]]


def overlaps(dataset: Dataset, *, near: bool = True) -> list[Overlap]:
    """Every pair of splits, and every split with itself (without near copies).

    ``near`` False looks for exact copies alone, which takes a moment for any data.
    """
    held = {name: _first(split) for name, split in dataset.splits.items()}
    digests = {name: _digests(examples["inputs"]) for name, examples in held.items()}
    targets = {name: _digests(examples["targets"]) for name, examples in held.items()}
    found = []
    for other, split in itertools.combinations(held, 2):
        found.append(_between(split, other, held, digests, targets, near=near))
    for name in held:
        copies = len(digests[name]) - len(set(digests[name]))
        count = len(digests[name])
        found.append(Overlap(name, name, count, count, copies, 0, 0, 0, 0, []))
    return found


def _between(
    split: str,
    other: str,
    held: Mapping[str, Mapping[str, np.ndarray]],
    digests: Mapping[str, list[bytes]],
    targets: Mapping[str, list[bytes]],
    *,
    near: bool,
) -> Overlap:
    places: dict[bytes, list[int]] = {}
    for place, digest in enumerate(digests[other]):
        places.setdefault(digest, []).append(place)
    copies = [(i, places[d]) for i, d in enumerate(digests[split]) if d in places]
    conflicts = sum(
        all(targets[split][i] != targets[other][j] for j in there) for i, there in copies
    )
    one, two = held[split]["inputs"], held[other]["inputs"]
    compared = min(len(one), 2048) if near else 0
    with_ = min(len(two), MOST_PAIRS // max(compared, 1))
    close = near_copies(one[:compared], two[:with_])
    examined = set(digests[other][:with_])
    exact = [d in examined for d in digests[split][:compared]]
    return Overlap(
        split, other, len(one), len(two), len(copies), conflicts, compared, with_,
        int(np.sum(close & ~np.array(exact, bool))), [(i, there[0]) for i, there in copies[:5]],
    )  # fmt: skip


def near_copies(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[n] whether each example of ``one`` [n, ...] is a copy or a near copy of one of ``other``."""
    if not len(one) or not len(other) or one.shape[1:] != other.shape[1:]:
        return np.zeros(len(one), bool)
    flat, flat_other = one.reshape(len(one), -1), other.reshape(len(other), -1)
    if _are_tokens(one):
        return _near_tokens(flat, flat_other)
    both = [np.asarray(x, np.float32) for x in (flat, flat_other)]
    scale = float(both[1].std())
    if not np.isfinite(scale) or scale == 0.0:
        return np.zeros(len(one), bool)
    # Centred, so that little cancels in |a|^2 - 2 a b + |b|^2.
    middle = both[1].mean(axis=0, keepdims=True)
    a, b = ((x - middle) / scale for x in both)
    limit = NEAR**2 * a.shape[1]
    lengths = (b**2).sum(axis=1)
    found = np.zeros(len(a), bool)
    for begin in range(0, len(a), _BLOCK):
        part = a[begin : begin + _BLOCK]
        squares = (part**2).sum(axis=1)[:, None] - 2 * part @ b.T + lengths[None, :]
        found[begin : begin + _BLOCK] = squares.min(axis=1) <= limit
    return found


def _near_tokens(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """By pigeonholes: of `TOKENS` + 1 parts of a near copy one at least is equal at its place."""
    parts = np.array_split(np.arange(one.shape[1]), min(TOKENS + 1, one.shape[1]))
    found = np.zeros(len(one), bool)
    for part in parts:
        table: dict[bytes, list[int]] = {}
        for place, digest in enumerate(_digests(other[:, part])):
            table.setdefault(digest, []).append(place)
        for i, digest in enumerate(_digests(one[:, part])):
            if not found[i] and digest in table:
                differ = (other[table[digest]] != one[i][None, :]).sum(axis=1)
                found[i] = differ.min() <= TOKENS
    return found


def _are_tokens(inputs: np.ndarray) -> bool:
    """Whole numbers wider than a byte of a picture, in rows."""
    return np.issubdtype(inputs.dtype, np.integer) and inputs.ndim == 2


def _digests(rows: np.ndarray) -> list[bytes]:
    rows = np.ascontiguousarray(rows)
    return [hashlib.blake2b(row.tobytes(), digest_size=16).digest() for row in rows]


def _first(split: Split) -> Mapping[str, np.ndarray]:
    one = read(split, np.arange(min(1, size_of(split))))
    each = max(1, sum(array.nbytes for array in one.values()))
    count = min(size_of(split), MOST_EXAMPLES, max(1, MOST_BYTES // each))
    return read(split, np.arange(count))
