"""The question to an automl, and the search that answers it."""

from __future__ import annotations

import dataclasses
from typing import Any

from experiments.procedures.automl.data import Examples
from experiments.procedures.automl.plan import AutomlPlan, first_bracket
from experiments.procedures.budget import Budget
from experiments.runner.predict import module_of
from experiments.spec.families import OPTIMIZER, SCHEDULE, TRACED, space_of
from experiments.spec.space import Choice
from experiments.spec.user_search import UserSearch


@dataclasses.dataclass(frozen=True)
class AutomlRequest:
    """A question to an automl.

    Attributes:
      source: a name or a path (`workloads.datasets.sources.read_source`).
      budget: in time, or in trials.
      target: the column of a CSV that is predicted.
      seed: of the split, the points and the training.
      data_dir: folder of the files of a name.
      baselines: compare with scikit-learn's classifiers.
    """

    source: str
    budget: Budget
    target: str | None = None
    seed: int = 0
    data_dir: str | None = None
    baselines: bool = False

    def __post_init__(self) -> None:
        if not self.budget or self.budget.unit == "steps":
            raise ValueError(f"--budget must be a time or trials (10min, 40trials), got "
                             f"{self.budget}")  # fmt: skip

    @property
    def seconds(self) -> float | None:
        """Of a budget in time; None of one in trials."""
        per = {"s": 1.0, "min": 60.0, "h": 3600.0}.get(self.budget.unit)
        return None if per is None else per * float(self.budget.amount or 0)


def search_of(asked: AutomlRequest, examples: Examples, plan: AutomlPlan) -> UserSearch:
    """The search as it is recorded."""
    classes, nets = len(examples.classes), examples.nets

    def build(values: dict[str, Any]) -> Any:
        return module_of(values, classes, nets)

    space = space_of(plan.preset, examples.shape)
    families = space["family"]
    alone = isinstance(families, Choice) and len(families.values) == 1
    return UserSearch(
        space,
        build=build,
        data=examples.searched,
        losses=examples.losses,
        trials=first_bracket(plan.epochs),
        budget=plan.epochs,
        # After an epoch families are told apart by how fast they learn: a sampler that learned from
        # that would ask for the fastest alone.
        sampler="rounds" if alone else "halton",
        pruner="hyperband",
        metric=examples.metric,
        direction="min",
        optimizer=OPTIMIZER,
        schedule=SCHEDULE,
        batch_size=plan.batch_size,
        traced=TRACED,
        refits=examples.refits,
        seed=asked.seed,
        name="search",
        question=f"Which net is best on {examples.source.name}?",
    )
