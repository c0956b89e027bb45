"""The cost of recording the curvature, said before a study starts. Imports no jax."""

from __future__ import annotations

from experiments.spec.resolved import ResolvedStudy
from experiments.spec.trial import CURVATURE_STEPS
from schedules.batch_size import examples_after, stretches


def measurements_of(study: ResolvedStudy, batch_size: int) -> int:
    """Count the measurements of the curvature of a trial at ``batch_size``, at its full length."""
    length, every = study.length(batch_size), study.record_curvature
    longest = max(map(study.length, study.batch_sizes))
    return sum(step < length for step in study.grid(longest)[::every]) + 1


def curvature_cost(study: ResolvedStudy) -> str:
    """The cost in words, "" where the study does not record the curvature.

    Counted in gradients of one example, which is what training makes of every example of a step; a
    product with the Hessian counts as two.
    """
    if not study.record_curvature:
        return ""
    examples = min(study.train_evaluation_examples, study.train_size)
    each = 2 * CURVATURE_STEPS * examples
    shares = {}
    for batch_size in (study.batch_sizes[0], study.batch_sizes[-1]):
        parts = stretches(study.phases(batch_size))
        trained = int(examples_after(parts, study.length(batch_size)))
        shares[batch_size] = each * measurements_of(study, batch_size) / trained
    words = ", ".join(
        f"{share:,.{1 if share < 10 else 0}f} times at batch size {b:,}"
        for b, share in shares.items()
    )
    every = study.record_curvature
    ends = {1: "st", 2: "nd", 3: "rd"}
    end = ends.get(every % 10, "th") if every % 100 not in (11, 12, 13) else "th"
    at = "every evaluation" if every == 1 else f"every {every:,}{end} evaluation"
    return (
        f"curvature: {CURVATURE_STEPS} Lanczos steps on {examples:,} training examples at {at}, "
        f"{each:,} gradients of one example each time; of all that training itself makes, {words}; "
        f"memory of {CURVATURE_STEPS} gradients more for every trial side by side"
    )
