"""Whether the studies of stable training came out as expected: rules on sweeps of the rate.

A rate is *usable* for a member where the median of its seeds ends within a stated factor of the
least final value of any member; what counts is the largest usable rate, not the class of the curve,
which a net with batch normalization may recover from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.verdict import Found, StudyVerdict

ERROR_FACTOR, LOSS_FACTOR = 2.0, 1.1
"""Of the least final value: an error twice as large, a cross entropy a tenth above it."""
ALIKE = 1.25
"""Best values within this factor count as the same."""
FURTHER = 2.0
"""A largest usable rate counts as larger from this factor on: a step of the sweeps or more."""

Rows = Sequence[Mapping[str, Any]]


def _rates(found: Found) -> dict[str, Rows]:
    return {label: member["rates"] for label, member in found["members"].items()}


def _best(rows: Rows) -> float:
    """The least final value of any rate."""
    return min((row["final"] for row in rows if row["final"] is not None), default=float("inf"))


def _usable(rates: Mapping[str, Rows], factor: float) -> dict[str, float]:
    """Label -> the largest rate that ends within ``factor`` of the least of all; 0 without one."""
    level = factor * min(map(_best, rates.values()))
    return {
        label: max(
            (row["rate"] for row in rows if row["final"] is not None and row["final"] <= level),
            default=0.0,
        )
        for label, rows in rates.items()
    }


def _words(label: str) -> str:
    return label.replace("_", " ")


def _told(found: Found, rates: Mapping[str, Rows], factor: float) -> tuple[str, str]:
    """The least final values, and the largest usable rates, as sentences."""
    usable = _usable(rates, factor)
    best = ", ".join(f"{_words(label)} {_best(rows):.3g}" for label, rows in rates.items())
    far = ", ".join(f"{_words(label)} {_rate(rate)}" for label, rate in usable.items())
    return (
        f"Least final {found['metric']} of any rate: {best}.",
        f"Largest usable rate (it ends within a factor of {factor:g} of the least of all): {far}.",
    )


def _rate(rate: float) -> str:
    return f"{rate:.3g}" if rate else "no rate"


def _unstable(rows: Rows, kind: str = "") -> list[float]:
    """Rates with a seed of that class, of any unstable one where none is named."""
    plain = ("stable", "no progress")
    return [
        row["rate"]
        for row in rows
        if any(seen == kind if kind else seen not in plain for seen in row["kinds"])
    ]


def stride(found: Found) -> StudyVerdict:
    """A stride of 1 is harmless at low rates, reaches less far, and warmup gives that back."""
    rates = _rates(found)
    usable = _usable(rates, ERROR_FACTOR)
    plain, changed, warmed = "stride_2", "stride_1", "stride_1_warmup"
    at = sorted(row["rate"] for row in rates[plain])
    finals = {label: {row["rate"]: row["final"] for row in rows} for label, rows in rates.items()}
    ratios = [
        (rate, finals[changed][rate] / finals[plain][rate])
        for rate in at
        if finals[changed][rate] is not None and finals[plain][rate]
    ]
    told = ", ".join(f"{ratio:.2g} at {rate:.3g}" for rate, ratio in ratios)
    return StudyVerdict.of(
        [
            _best(rates[changed]) <= ALIKE * _best(rates[plain]),
            usable[plain] >= FURTHER * usable[changed],
            usable[warmed] >= FURTHER * usable[changed],
        ],
        *_told(found, rates, ERROR_FACTOR),
        f"Final {found['metric']} with a stride of 1 over that with 2: {told}.",
    )


def _reaches(found: Found, good: str, bad: str, factor: float) -> StudyVerdict:
    """``good`` trains at rates ``bad`` does not, and ends no higher at its best."""
    rates = _rates(found)
    usable = _usable(rates, factor)
    return StudyVerdict.of(
        [usable[good] >= FURTHER * usable[bad], _best(rates[good]) <= _best(rates[bad])],
        *_told(found, rates, factor),
    )


def norm_placement(found: Found) -> StudyVerdict:
    """Pre-norm reaches higher rates than post-norm, and ends no higher."""
    return _reaches(found, "pre", "post", LOSS_FACTOR)


def residual_norm(found: Found) -> StudyVerdict:
    """x + Norm(f(x)) reaches higher rates than Norm(x + f(x)), and ends no higher."""
    return _reaches(found, "post_branch", "post", LOSS_FACTOR)


def rezero(found: Found) -> StudyVerdict:
    """A deep net without normalization trains where its branches start at zero."""
    return _reaches(found, "rezero", "standard", ERROR_FACTOR)


SPIKE = "mid-training instability"


def spike(found: Found) -> StudyVerdict:
    """Spikes without clipping; under some threshold none at those rates, and no higher an end."""
    rates = _rates(found)
    spikes = {label: _unstable(rows, SPIKE) for label, rows in rates.items()}
    clipped = [label for label in rates if label.startswith("clipped")]
    told = "; ".join(
        f"{_words(label)} {', '.join(f'{rate:.3g}' for rate in seen) or 'none'}"
        for label, seen in spikes.items()
    )
    ends = {
        label: {row["rate"]: row["final"] for row in rows if row["final"] is not None}
        for label, rows in rates.items()
    }
    cured = [
        not spikes[label]
        and all(
            ends[label].get(rate, math.inf) <= ends["none"].get(rate, math.inf) < math.inf
            for rate in spikes["none"]
        )
        for label in clipped
    ]
    shares = "; ".join(
        f"{_words(label)} "
        + ", ".join(f"{row['clipped'] or 0:.0%} at {row['rate']:.3g}" for row in rates[label])
        for label in clipped
    )
    return StudyVerdict.of(
        [True, any(cured)] if spikes["none"] else [False],
        f"Peak rates at which a seed has a mid-training instability: {told}.",
        f"Steps that were clipped: {shares}.",
        *_told(found, rates, ERROR_FACTOR),
    )


def autoclip(found: Found) -> StudyVerdict:
    """AutoClip reaches as far as the best fixed threshold, without one being chosen."""
    rates = _rates(found)
    usable = _usable(rates, ERROR_FACTOR)
    fixed = max(rate for label, rate in usable.items() if label.startswith("fixed"))
    automatic = max(rate for label, rate in usable.items() if "autoclip" in label)
    above = min(
        (row["rate"] for row in rates["none"] if row["rate"] > automatic), default=automatic
    )
    there = ", ".join(
        f"{_words(label)} {row['final']:.3g}"
        for label, rows in rates.items()
        for row in rows
        if row["rate"] == above and row["final"] is not None
    )
    return StudyVerdict.of(
        [automatic >= fixed, automatic >= FURTHER * usable["none"]],
        *_told(found, rates, ERROR_FACTOR),
        f"At {above:.3g}, the next rate: {there}.",
    )
