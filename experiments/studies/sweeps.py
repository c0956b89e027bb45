"""Comparisons of sweeps of a constant rate: what the studies of stable training have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.spec.comparison import Comparison
from experiments.spec.space import Choice
from experiments.spec.study import Study


def swept(
    name: str,
    question: str,
    expected: str,
    members: Mapping[str, Mapping[str, Any]],
    *,
    rates: Sequence[float],
    batch_size: int,
    steps: int,
    **shared: Any,
) -> Comparison:
    """A comparison whose members train once a rate and seed, all equally long.

    Args:
      name, question, expected: of the comparison.
      members: label -> the fields in which that member differs.
      rates: the grid.
      batch_size: examples per step.
      steps: of a trial, warmup included.
      **shared: other fields of every member.
    """
    studies = {
        label: Study(
            **{
                "name": f"{name}-{label}", "question": question,
                "batch_sizes": (batch_size,), "example_budget": batch_size, "step_budget": steps,
                "space": {"learning_rate": Choice(tuple(rates))}, "trials": len(rates),
                "sampler": "grid", "stop": "never", **shared, **own,
            }
        )
        for label, own in members.items()
    }  # fmt: skip
    return Comparison(name, question, studies, expected, differ=("workload",))
