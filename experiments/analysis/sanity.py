"""The sanity list of a model: from what was measured to pass, warn, fail or not applicable.

Rules are of CS231n (neural networks part 3) and of the Deep Learning Tuning Playbook; numbers that
are ours are named so. Each check holds its evidence and what to do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

Result = Literal["pass", "warn", "fail", "not applicable"]
Numbers = Mapping[str, Any]

INITIAL_SHARE = 0.1
"""Of the loss at zero outputs: what the initial loss may differ from its theory by (ours)."""
SMALL_VARIANCE = 0.5
"""Share of that loss by which the outputs' variance may raise it at a small start (ours)."""
FIT = 0.01
"""Share of its first value below which a loss without an error is memorised (ours)."""
RATIO, RATIO_BAND = 1e-3, 10.0
"""Of update to weight; a factor within which it is right (CS231n: 1e-2 is tolerable)."""
DEAD_WARN, DEAD_FAIL = 0.4, 0.95
"""Share of a layer's units: CS231n names 40 %; 95 % is ours."""
GRADIENT_WRONG, GRADIENT_DOUBT, GRADIENT_SMOOTH = 1e-2, 1e-4, 1e-5
"""Relative errors: CS231n's, but the last (between its 1e-7, happy, and 1e-4, too high)."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of the list.

    Attributes:
      name: of the check.
      result: pass, warn, fail or not applicable.
      evidence: what was measured, with its theory.
      advice: what to do; "" where nothing.
      values: the numbers, JSON values.
    """

    name: str
    result: Result
    evidence: str
    advice: str = ""
    values: Numbers = dataclasses.field(default_factory=dict)


def initial_loss(m: Numbers) -> Check:
    """The first loss is that of outputs that are all zero: log K for a cross entropy."""
    name = "initial loss"
    if not m["numbers"]:
        return Check(name, "not applicable", f"{m['loss']:.4g}; the model returns its own losses: "
                     "no theory of their start", values=m)  # fmt: skip
    zero, loss, classes = m["zero_loss"], m["loss"], m["classes"]
    theory = f"log {m['numbers']}" if m["cross_entropy"] else "the loss of outputs that are 0"
    raised = m["variance"] / 2 if m["cross_entropy"] else 0.0
    said = f"{loss:.4g}; theory: {theory} = {zero:.4g}"
    said += f", and {raised:.2g} by the outputs' variance" if raised > 0.005 else ""
    if not math.isfinite(loss):
        return Check(name, "fail", f"{loss} before the first step", "look for a division by 0 or "
                     "a logarithm of 0, and at the scale of the inputs", m)  # fmt: skip
    log_k = math.log(m["numbers"])
    if m["cross_entropy"] and abs(zero - log_k) > 0.01 * log_k:
        return Check(name, "fail", f"zero outputs have an objective of {zero:.4g}, not {theory} = "
                     f"{log_k:.4g}", "the objective is not the mean cross entropy of its count: "
                     "look at its sums and counts", m)  # fmt: skip
    if m["cross_entropy"] and classes and m["numbers"] < classes:
        return Check(name, "fail", f"{m['numbers']} outputs for {classes} classes",
                     "give the model as many outputs as there are classes", m)  # fmt: skip
    slack = INITIAL_SHARE * abs(zero) + raised
    if abs(loss - zero - raised) > slack:
        return Check(name, "fail" if m["cross_entropy"] else "warn", said,
                     "the start is not small: look at the initialization of the last layer and "
                     "the scale of the inputs", m)  # fmt: skip
    if raised > SMALL_VARIANCE * abs(zero):
        return Check(name, "warn", said, "the outputs start large: a smaller last layer starts "
                     "at chance", m)  # fmt: skip
    return Check(name, "pass", said, values=m)


def penalties(m: Mapping[str, Sequence[tuple[float, float]]]) -> Check:
    """A penalty inside the loss raises it."""
    name, values = "penalty raises the loss", {k: list(map(list, v)) for k, v in m.items()}
    if not m:
        return Check(name, "not applicable", "the workload has no hyperparameter that regularizes")
    said, result, lost = [], "pass", []
    for what, pairs in m.items():
        losses = [loss for _, loss in pairs]
        said.append(f"{what} " + ", ".join(f"{s:g}: {loss:.4g}" for s, loss in pairs))
        if max(losses) - min(losses) <= 1e-6 * max(abs(losses[0]), 1e-12):
            lost.append(what)
        elif not losses[0] < losses[1] < losses[2]:
            result = "warn"
    if lost:
        return Check(name, "fail", "; ".join(said), f"{', '.join(lost)} changes nothing: the "
                     "objective does not hold it, or the model does not read it",
                     values)  # fmt: skip
    advice = (
        "" if result == "pass" else "it changes the loss and does not raise it: look at its sign"
    )
    return Check(name, result, "; ".join(said), advice, values)  # type: ignore[arg-type]


def memorised(m: Numbers) -> Check:
    """A few examples are learned to zero training error with regularization off."""
    name, error, floor = "memorises 20 examples", m["error"], m["floor"]
    at = f"after {m['steps']} steps at a rate of {m['rate']:g}"
    advice = (
        "a net that cannot learn twenty examples has a defect, or too little room: look at the "
        "targets, the gradient check and dead units; --steps and --learning-rate give it more"
    )
    if m.get("own_loss"):
        return Check(name, "not applicable", "the model returns its own losses", values=m)
    if error is None:
        fitted = m["after"] <= FIT * m["before"]
        said = f"loss {m['before']:.4g} -> {m['after']:.4g} {at}"
        return Check(name, "pass" if fitted else "warn", said, "" if fitted else advice, m)
    least = f", the least for equal inputs {floor:.3g}" if floor > 0 else ""
    said = f"{m['examples']} examples, error {error:.3g}{least} {at}"
    if error <= floor + 1e-6:
        return Check(name, "pass", said, values=m)
    near = error <= floor + 0.1 and m["after"] < 0.2 * m["before"]
    return Check(name, "warn" if near else "fail", said, advice, m)


def gradient(arrays: Sequence[Numbers], smooth: bool) -> Check:
    """The analytic gradient is the numeric one, array by array of the parameters."""
    name = "gradient check"
    worst = {a["name"]: _worst(a) for a in arrays}
    if not worst:
        return Check(name, "not applicable", "the model has no parameters")
    kinks = sum(sum(a["kinks"]) for a in arrays)
    count = sum(len(a["error"]) for a in arrays)
    place, error = max(worst.items(), key=lambda item: item[1])
    values = {"worst": worst, "kinks": kinks, "coordinates": count}
    said = f"largest relative error {error:.1e} ({place}); "
    said += f"{count} coordinates of {len(worst)} arrays, {kinks} at kinks"
    if error > GRADIENT_WRONG:
        return Check(name, "fail", said, f"above {GRADIENT_WRONG:g} a gradient is wrong: look at "
                     "custom derivatives, stop_gradient and casts", values)  # fmt: skip
    if error > GRADIENT_DOUBT or (smooth and error > GRADIENT_SMOOTH):
        return Check(name, "warn", said, "too large for a smooth loss; a deep net or a kink may "
                     "explain it", values)  # fmt: skip
    return Check(name, "pass", said, values=values)


def _worst(array: Numbers) -> float:
    """The largest error off kinks; where every coordinate is at one, the smallest."""
    off = [e for e, kink in zip(array["error"], array["kinks"], strict=True) if not kink]
    return float(max(off)) if off else float(min(array["error"]))


def updates(m: Mapping[str, Numbers], rate: float, optimizer: str) -> Check:
    """The ratio of update to weight is about 1e-3 in every layer."""
    name = "update to weight ratio"
    weights = {layer: row["ratio"] for layer, row in m.items() if row["weights"]}
    values = {layer: row["ratio"] for layer, row in m.items()}
    if not weights:
        return Check(name, "not applicable", "no parameter is a matrix or a kernel", values=values)
    low, high = min(weights, key=weights.__getitem__), max(weights, key=weights.__getitem__)
    said = f"{weights[low]:.1e} ({low}) to {weights[high]:.1e} ({high}); {optimizer} at {rate:g}"
    if weights[high] == 0 or not math.isfinite(weights[high]):
        return Check(name, "fail", said, "no update, or none that is finite", values)
    if weights[low] == 0:
        return Check(name, "fail", said, f"{low} is not trained: no gradient reaches it", values)
    if weights[high] > RATIO * RATIO_BAND:
        return Check(name, "warn", said, "above 1e-2 the rate may be too high", values)
    if weights[low] < RATIO / RATIO_BAND:
        return Check(name, "warn", said, "below 1e-4 the rate may be too low", values)
    return Check(name, "pass", said, values=values)


def signals(layers: Sequence[Numbers]) -> Check:
    """Activations and gradients neither vanish nor explode from layer to layer."""
    name = "activations and gradients"
    made = [row for row in layers if row["kind"] == "linear"]
    grads = [row for row in layers if row["kind"] == "gradient"]
    values = {f"{row['kind']} {row['name']}": row["deviation"] for row in layers}
    if not made and not grads:
        return Check(name, "not applicable", "no matrix product, convolution or parameter is seen")
    lost = [r["name"] for r in grads if r["deviation"] == 0 and r["mean"] == 0]
    wild = [r["name"] for r in layers if not math.isfinite(r["deviation"])]
    if lost or wild:
        what = f"not finite: {', '.join(wild)}" if wild else f"no gradient: {', '.join(lost)}"
        return Check(name, "fail", what, "look at the layer named and at what lies above it: "
                     "a dead layer, stop_gradient, an overflow", values)  # fmt: skip
    spans = []
    for title, rows in (("activations", made), ("gradients", grads)):
        found = [r["deviation"] for r in rows if r["deviation"] > 0]
        if found:
            spans.append((max(found) / min(found), f"{title} {min(found):.2g} to {max(found):.2g}"))
    said = "standard deviations of " + ", ".join(text for _, text in spans)
    if any(span > 1e4 for span, _ in spans):
        return Check(name, "warn", said, "four orders of magnitude between layers: look at the "
                     "initialization, or normalize", values)  # fmt: skip
    return Check(name, "pass", said, values=values)


def dead_units(before: Sequence[Numbers], after: Sequence[Numbers]) -> Check:
    """ReLUs that are 0 on every example."""
    name = "dead units"
    shares = [
        {r["name"]: r["dead"] / r["units"] for r in rows if r["kind"] == "relu"}
        for rows in (before, after)
    ]
    if not shares[1]:
        return Check(name, "not applicable", "the model has no ReLU outside a loop")
    layer, worst = max(shares[1].items(), key=lambda item: item[1])
    said = f"at most {worst:.0%} of a layer ({layer}), {max(shares[0].values()):.0%} at the start"
    values = {"before": shares[0], "after": shares[1]}
    if worst >= DEAD_FAIL:
        return Check(name, "fail", said, "nothing passes a dead layer: look at its bias, the rate "
                     "and the scale of the inputs", values)  # fmt: skip
    if worst >= DEAD_WARN:
        return Check(name, "warn", said, "the rate may be too high, or the start too large", values)
    return Check(name, "pass", said, values=values)


def filters(correlation: float | None, steps: int) -> Check:
    """The first layer's weights as a picture, which a person looks at."""
    if correlation is None:
        return Check("first-layer filters", "not applicable", "the inputs are no pictures")
    said = f"drawn; neighbouring weights correlate by {correlation:.2f} after {steps} steps"
    return Check("first-layer filters", "pass", said,
                 "noise that stays to the end of training means a rate too low, too little "
                 "training or regularization", {"correlation": correlation})  # fmt: skip


def inputs(m: Numbers) -> Check:
    """Outputs differ from example to example."""
    name = "reads its inputs"
    if m["one_number"]:
        return Check(name, "not applicable", "the model returns its own losses", values=m)
    said = ", ".join(f"{m[k]:.2g} of their size {k}" for k in m if k != "one_number")
    said = f"outputs differ between examples by {said}"
    if max(v for k, v in m.items() if k != "one_number") < 1e-6:
        return Check(name, "fail", said, "the inputs do not reach the outputs", m)
    return Check(name, "pass", said, values=m)


def answer(checks: Sequence[Check]) -> str:
    """'12 pass, 1 warn, 0 fail, 3 not applicable: ...' in one sentence."""
    count = {
        result: sum(c.result == result for c in checks)
        for result in ("pass", "warn", "fail", "not applicable")
    }
    said = ", ".join(f"{n} {result}" for result, n in count.items() if n)
    failed = [c.name for c in checks if c.result == "fail"]
    return f"{said}. " + (f"Mend first: {', '.join(failed)}." if failed else "Nothing fails.")
