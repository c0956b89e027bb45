"""Comparisons of sweeps of a constant rate: what the studies of stable training have in common."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.spec.comparison import Comparison
from experiments.spec.space import Choice
from experiments.spec.study import Study
from workloads import text_transformer

FULL_TRANSFORMER = {"layers": 12, "width": 256, "feed_forward": 1024, "heads": 8}
SMALL_TRANSFORMER = {"layers": 6, "width": 32, "feed_forward": 64, "heads": 2}


def placements(
    names: Sequence[str], sizes: Mapping[str, int], **data: int
) -> dict[str, dict[str, Any]]:
    """Members that differ in the placement of their normalization: Transformers on text.

    Args:
      names: of placements.
      sizes: options of the model.
      **data: options of the dataset.
    """
    base = text_transformer.WORKLOAD

    def workload(placement: str) -> Any:
        return dataclasses.replace(
            base,
            name=f"text_transformer_{placement}",
            model_options={**base.model_options, **sizes, "placement": placement},
            dataset_options={**base.dataset_options, **data},
            search_spaces={},
        )

    return {placement: {"workload": workload(placement)} for placement in names}


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
