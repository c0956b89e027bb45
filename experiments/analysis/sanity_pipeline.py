"""The sanity list of the pipeline: data, labels, evaluation, determinism, speed.

As `experiments.analysis.sanity`; what the Tuning Playbook asks of a training pipeline.
"""

from __future__ import annotations

from collections.abc import Sequence

from experiments.analysis.sanity import Check, Numbers

COPIES_FAIL = 0.01
"""Share of evaluated examples that are in the training set (ours)."""
SIGMAS = 3.0
EVALUATION_TOLERANCE = 1e-4
"""Relative: some hundred float32 sums in another order."""
INPUT_BOUND = 0.5


def overlap(rows: Sequence[Numbers]) -> Check:
    """No example of validation or test is in the training set."""
    name, values = "overlap of splits", {"pairs": [dict(row) for row in rows]}
    shared = [r for r in rows if r["split"] != r["other"]]
    leaks = [r for r in shared if r["other"] == "train"]
    said = "; ".join(
        f"{r['split']} in {r['other']}: {r['copies']:,} copies, {r['near']:,} near, of "
        f"{r['examples']:,}"
        for r in shared
    )
    twice = sum(r["copies"] for r in rows if r["split"] == r["other"])
    said += f"; repeated within a split: {twice:,}" if twice else ""
    advice = "take the copies out of the training set: validation counts what was seen"
    worst = max((r["copies"] / r["examples"] for r in leaks if r["examples"]), default=0.0)
    close = max((r["near"] / r["compared"] for r in leaks if r["compared"]), default=0.0)
    if worst >= COPIES_FAIL:
        return Check(name, "fail", said, advice, values)
    if worst > 0 or close >= COPIES_FAIL or any(r["copies"] for r in shared):
        return Check(name, "warn", said, advice, values)
    return Check(name, "pass", said, values=values)


def shuffled(m: Numbers) -> Check:
    """Trained on shuffled labels, validation is no better than a constant predictor."""
    name = "shuffled labels"
    if m["error"] is None:
        return Check(name, "not applicable", "the workload counts no classification errors")
    least = m["constant"] - SIGMAS * m["standard_error"]
    said = f"validation error {m['error']:.3g}; a constant predictor {m['constant']:.3g}"
    if m["error"] < least:
        return Check(name, "fail", said, "the answer reaches the model by another way than "
                     "training: does it read targets?", m)  # fmt: skip
    return Check(name, "pass", said, values=m)


def learns(m: Numbers, steps: int) -> Check:
    """A short training is better than a constant predictor."""
    name = "better than chance"
    if m["error"] is None:
        return Check(name, "not applicable", "the workload counts no classification errors")
    said = f"validation error {m['error']:.3g} after {steps} steps; a constant predictor "
    said += f"{m['constant']:.3g}"
    if m["error"] >= m["constant"] - SIGMAS * m["standard_error"]:
        return Check(name, "warn", said, "more steps or another rate (--steps, --learning-rate); "
                     "if none helps, do inputs and targets belong together?", m)  # fmt: skip
    return Check(name, "pass", said, values=m)


def repeats(m: Numbers, datasets_equal: bool) -> Check:
    """Two runs from one seed are equal, bit by bit, on equal data."""
    name = "determinism"
    values = {**m, "datasets_equal": datasets_equal}
    if not datasets_equal:
        return Check(name, "fail", "the dataset, loaded twice, is not the same",
                     "draw it from a fixed seed", values)  # fmt: skip
    said = f"two runs of {m['steps']} steps: {m['differ']:,} of {m['bytes']:,} bytes differ"
    if m["differ"]:
        return Check(name, "fail", said, "random numbers that are not of the key given, or a "
                     "kernel that adds in any order (XLA_FLAGS=--xla_gpu_deterministic_ops=true)",
                     values)  # fmt: skip
    return Check(name, "pass", said, values=values)


def evaluation_batches(m: Numbers) -> Check:
    """The size of an evaluation batch, and padding, change nothing."""
    name = "evaluation batch size"
    gaps = {n: abs(a - b) / max(abs(a), abs(b), 1e-12) for n, (a, b) in m["values"].items()}
    which, gap = max(gaps.items(), key=lambda item: item[1])
    a, b = m["values"][which]
    said = f"{which} {a:.6g} with {m['sizes'][0]} at once, {b:.6g} with {m['sizes'][1]}"
    values = {"sizes": list(m["sizes"]), "differ": gaps}
    # One example whose classes tie may be counted either way.
    slack = 1.5 / (max(a, b, 1e-12) * m["sizes"][0]) if which == "classification_error" else 0.0
    if not gap <= EVALUATION_TOLERANCE:
        return Check(name, "warn" if gap <= slack else "fail", said, "in evaluation an "
                     "example's outputs must not depend on the others: batch statistics?",
                     values)  # fmt: skip
    return Check(name, "pass", said, values=values)


def batch_norm(m: Numbers) -> Check:
    """Statistics do not depend on how a batch is cut, and running averages have caught up."""
    name = "batch norm in step"
    if not m["statistics"]:
        return Check(name, "not applicable", "the model has no running statistics")
    trained, evaluated = m["training"]["objective"], m["evaluation"]["objective"]
    said = f"loss {trained:.3g} with a batch's statistics, {evaluated:.3g} with running ones"
    if m["differ"] is not None:
        said += f"; cut at ghost batches of {m['ghost']} they differ by {m['differ']:.1e}"
    if m["differ"] is not None and m["differ"] > 1e-3:
        return Check(name, "fail", said, "statistics are not synchronized between parts of a "
                     "batch: weigh them by examples and average", m)  # fmt: skip
    if not evaluated <= 2 * trained + 0.5:
        return Check(name, "warn", said, "running averages lag behind: a shorter decay, or "
                     "evaluate after more steps", m)  # fmt: skip
    return Check(name, "pass", said, values=m)


def input_bound(seconds: float, share: float, batch_size: int) -> Check:
    """The host prepares batches faster than the device trains on them."""
    name, values = "input-bound", {"seconds_per_step": seconds, "input_share": share}
    said = f"the host takes {share:.0%} of {1e3 * seconds:.3g} ms a step at batch size {batch_size}"
    if share >= INPUT_BOUND:
        return Check(name, "warn", said, "training waits for its data: keep them in memory, "
                     "decode once, use more threads", values)  # fmt: skip
    return Check(name, "pass", said, values=values)
