"""Whether a study came out as its docstring expected: a rule for each, applied to its numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

from benchmarks import stability_verdicts as stability
from benchmarks.verdict import Found, StudyVerdict
from experiments.report.answer import steps_text


def _steps(member: Found) -> dict[int, float]:
    """Batch size -> median steps; infinite where the typical search did not get there."""
    return {row["batch_size"]: row["median"] or math.inf for row in member["curve"]}


def _best(member: Found, budget: str = "epoch") -> dict[int, float]:
    """Batch size -> best value under the study's whole budget, median of the searches."""
    rows = [row for row in member["budgets"] if row["budget"] == budget]
    within = max(row["within"] for row in rows)
    return {row["batch_size"]: row["median"] for row in rows if row["within"] == within}


def _number(value: Any) -> float:
    return math.inf if value in (None, "inf") else float(value)


def _limit(member: Found, name: str = "limit") -> str:
    """'12 (11 to 16)', 'at least 256', 'not known'."""
    found = member[name]
    if found["value"] is None:
        return "not known"
    sign = {"=": "", ">=": "at least ", "<=": "at most "}[found["relation"]]
    text = f"{sign}{found['value']:.3g}"
    if found["low"] is None:
        return text
    ends = (_number(found["low"]), _number(found["high"]))
    low = f"{ends[0]:.3g}" if math.isfinite(ends[0]) else "unknown"
    return f"{text} ({low} to {f'{ends[1]:.3g}' if math.isfinite(ends[1]) else 'beyond'})"


def _ratio(ratio: float) -> str:
    return f"{ratio:.2g}" if math.isfinite(ratio) else "without end (the goal was not reached)"


def _limits(found: Found, names: Mapping[str, str]) -> str:
    return ", ".join(f"{words} {_limit(found['members'][label])}" for label, words in names.items())


def momentum(found: Found) -> StudyVerdict:
    """Momentum is no help at the smallest batch size, is at the largest, and extends scaling."""
    members = found["members"]
    steps = {label: _steps(member) for label, member in members.items()}
    sizes = sorted(steps["sgd"])
    ratios = {b: steps["sgd"][b] / min(steps["momentum"][b], steps["nesterov"][b]) for b in sizes}
    ends = {label: _number(member["limit"]["value"]) for label, member in members.items()}
    told = ", ".join(f"{_ratio(ratios[b])} at {b:,}" for b in sizes)
    return StudyVerdict.of(
        [
            ratios[sizes[0]] <= 1.5,
            ratios[sizes[-1]] > 1.5,
            max(ends["momentum"], ends["nesterov"]) > ends["sgd"],
        ],
        f"Plain SGD's steps over those of the better momentum rule, by batch size: {told}.",
        "End of perfect scaling: "
        + _limits(found, {"sgd": "SGD", "momentum": "momentum", "nesterov": "Nesterov"})
        + ".",
    )


ADAPTIVE = ("rmsprop", "adam", "nadam", "adamw", "lamb")
"""Rules that divide each coordinate by a running size of its gradient."""


def optimizers(found: Found) -> StudyVerdict:
    """Adaptive rules are ahead of plain SGD, and the further the larger the batch."""
    steps = {label: _steps(member) for label, member in found["members"].items()}
    sizes = sorted(steps["sgd"])
    ratios = [steps["sgd"][b] / min(steps[rule][b] for rule in ADAPTIVE) for b in sizes]
    fastest = {b: min(steps, key=lambda label: steps[label][b]) for b in sizes}
    told = [f"{rule} at {b:,} ({steps_text(steps[rule][b])})" for b, rule in fastest.items()]
    return StudyVerdict.of(
        [ratios[-1] > 1, *(left < right for left, right in itertools.pairwise(ratios))],
        "Plain SGD's steps over those of the best adaptive rule, by batch size: "
        + ", ".join(f"{_ratio(ratio)} at {b:,}" for b, ratio in zip(sizes, ratios, strict=True))
        + ".",
        f"Fewest steps: {', '.join(told)}.",
    )


def _spread(found: Found) -> float | None:
    """The greatest end of perfect scaling over the least, of all members; None where unknown."""
    ends = [member["limit"]["value"] for member in found["members"].values()]
    known = all(member["limit"]["relation"] == "=" for member in found["members"].values())
    return max(ends) / min(ends) if known and all(ends) else None


def _factor(spread: float | None) -> str:
    return "not all are known" if spread is None else f"a factor of {spread:.2g}"


def train_size(found: Found) -> StudyVerdict:
    """The ends of perfect scaling lie within a factor of two over a factor of four in examples."""
    spread = _spread(found)
    names = {label: label.replace("=", " ") for label in found["members"]}
    return StudyVerdict.of(
        [] if spread is None else [spread <= 2.0],
        f"End of perfect scaling: {_limits(found, names)}; {_factor(spread)} (called the same up "
        "to two).",
    )


def width(found: Found) -> StudyVerdict:
    """Wider nets need fewer steps at every batch size; their ends have no order."""
    steps = [_steps(member) for member in found["members"].values()]
    sizes = sorted(steps[0])
    fewer = {b: steps[0][b] / steps[-1][b] for b in sizes}
    told = ", ".join(f"{_ratio(fewer[b])} at {b:,}" for b in sizes)
    names = {label: label.replace("=", " ") for label in found["members"]}
    return StudyVerdict.of(
        [all(ratio >= 1 for ratio in fewer.values())],
        f"Steps of the narrowest net over those of the widest, by batch size: {told}.",
        f"End of perfect scaling: {_limits(found, names)}; {_factor(_spread(found))}.",
    )


def budgets(found: Found) -> StudyVerdict:
    """The best batch size grows with the step budget, and is smaller under epoch budgets."""
    rows = found["members"][""]["best_batch_sizes"]
    best = {
        budget: [row for row in rows if row["budget"] == budget] for budget in ("step", "epoch")
    }

    def told(budget: str, unit: str) -> str:
        return ", ".join(
            f"{row['batch_size']:,}{_range(row)} within {row['within']:,} {unit}"
            for row in best[budget]
        )

    whole = {budget: rows[-1]["batch_size"] for budget, rows in best.items()}
    return StudyVerdict.of(
        [
            whole["step"] > whole["epoch"],
            best["step"][-1]["batch_size"] >= best["step"][0]["batch_size"],
        ],
        f"Best batch size by step budget: {told('step', 'steps')}.",
        f"Best batch size by epoch budget: {told('epoch', 'examples')}.",
    )


def _range(row: Found) -> str:
    if row["low"] is None:
        return ""
    return f" ({_number(row['low']):,.0f} to {_number(row['high']):,.0f})"


def _ranges(member: Found) -> dict[int, tuple[float, float]]:
    """Batch size -> range over the searches of the best value under the whole epoch budget."""
    rows = [row for row in member["budgets"] if row["budget"] == "epoch"]
    within = max(row["within"] for row in rows)
    return {
        row["batch_size"]: (float(row["low"]), float(row["high"]))
        for row in rows
        if row["within"] == within
    }


ALIKE = 0.25
"""Errors that differ by this share count as the same; stated before the study was run."""


def growth(found: Found) -> StudyVerdict:
    """Growing the batch ends within a quarter of the error of decaying the rate."""
    members = found["members"]
    errors = {label: _best(member) for label, member in members.items()}
    sizes = sorted(errors["decaying_rate"])
    one, other = _ranges(members["growing_batch"]), _ranges(members["decaying_rate"])
    ratio = {b: errors["growing_batch"][b] / errors["decaying_rate"][b] for b in sizes}
    same = [1 / (1 + ALIKE) <= ratio[b] <= 1 + ALIKE for b in sizes]
    apart = [f"{b:,}" for b in sizes if one[b][0] > other[b][1] or other[b][0] > one[b][1]]
    told = "; ".join(
        f"at {b:,} "
        + ", ".join(f"{label.replace('_', ' ')} {errors[label][b]:.3g}" for label in members)
        for b in sizes
    )
    made = "; ".join(
        f"at {b:,} {members['growing_batch']['updates'][str(b)]:,} in place of "
        f"{members['decaying_rate']['updates'][str(b)]:,}"
        for b in sizes
    )
    return StudyVerdict.of(
        same,
        f"Best {found['metric']} after the same examples: {told}.",
        "The error of a growing batch over that of a decaying rate: "
        + ", ".join(f"{ratio[b]:.2f} at {b:,}" for b in sizes)
        + f" (alike: within {ALIKE:.0%}).",
        f"Batch sizes at which the two ranges lie apart: {', '.join(apart) or 'none'}.",
        f"Updates of a whole trial that grows: {made}.",
    )


def beta2(found: Found) -> StudyVerdict:
    """The best fixed beta2 falls with B; the half-life loses less at its worst than any of them."""
    losses = {label: _best(member) for label, member in found["members"].items()}
    sizes = sorted(losses["half_life"])
    kept = [label for label in losses if label != "half_life"]
    best = {b: min(kept, key=lambda label: losses[label][b]) for b in sizes}
    order = [float(best[b].partition("=")[2]) for b in sizes]
    worst = {
        label: max(losses[label][b] / min(losses[other][b] for other in losses) for b in sizes)
        for label in losses
    }
    table = "; ".join(
        f"at {b:,} " + ", ".join(f"{label.replace('_', '-')} {losses[label][b]:.3g}"
                                 for label in losses)
        for b in sizes
    )  # fmt: skip
    lost = ", ".join(f"{label.replace('_', '-')} {ratio:.2g}" for label, ratio in worst.items())
    return StudyVerdict.of(
        [
            order == sorted(order, reverse=True) and order[0] > order[-1],
            worst["half_life"] < min(worst[label] for label in kept),
        ],
        f"Best {found['metric']} after eight epochs: {table}.",
        "The best fixed beta2 is "
        + ", ".join(f"{best[b].partition('=')[2]} at {b:,}" for b in sizes)
        + f"; at its worst batch size each loses against the best, as a factor: {lost}.",
    )


def noise_scale(found: Found) -> StudyVerdict:
    """B_simple at the goal lies above the noise critical batch size, by a factor of 1.3 to 8."""
    (member,) = found["members"].values()
    critical = _number(member["noise"]["value"])
    known = {
        row["batch_size"]: row["noise_scale"]
        for row in member["noise_scale"]
        if row["noise_scale"] is not None
    }
    lost = [f"{row['batch_size']:,}" for row in member["noise_scale"] if not row["noise_scale"]]
    told = ", ".join(f"{value:,.0f} at {b:,}" for b, value in known.items())
    within = [1.3 <= value / critical <= 8 for value in known.values()]
    return StudyVerdict.of(
        within,
        f"Noise critical batch size {_limit(member, 'noise')}; end of perfect scaling "
        f"{_limit(member)}.",
        f"B_simple at the goal: {told}; not told from noise at {', '.join(lost) or 'none'}.",
    )


VERDICTS: dict[str, Callable[[Found], StudyVerdict]] = {
    "beta2_digits": beta2,
    "budgets_digits": budgets,
    "growth_digits": growth,
    "momentum_digits": momentum,
    "autoclip": stability.autoclip,
    "noise_scale_digits": noise_scale,
    "optimizers_digits": optimizers,
    "norm_placement_text": stability.norm_placement,
    "residual_norm_text": stability.residual_norm,
    "rezero_depth": stability.rezero,
    "training_spike": stability.spike,
    "wide_resnet_stride": stability.stride,
    "train_size_digits": train_size,
    "width_digits": width,
}
