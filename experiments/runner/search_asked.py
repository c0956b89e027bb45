"""A search as it is asked for, made complete: its data, its pruner, and how the record says it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from experiments.analysis.search_record import KIND
from experiments.runner.search_models import TRAIN_EVALUATION_EXAMPLES, SearchTask
from experiments.runtime.environment import environment
from experiments.search.fidelity import Pruner
from experiments.search.samplers.table import SAMPLERS
from experiments.spec import loading
from experiments.spec.space import greatest
from experiments.spec.user_search import CHOSEN_PARTS, UserSearch, goal_of
from experiments.training.feed import ResidentData
from workloads import datasets, get
from workloads.base import Workload
from workloads.datasets.base import Dataset
from workloads.registry import resolve

CLASSIFICATION = "workloads.losses:CLASSIFICATION"


def task_of(asked: UserSearch, data_dir: str | None) -> tuple[SearchTask, Dataset]:
    """The part that all built modules share; refuses what does not fit the data."""
    if asked.data is not None:
        dataset = _arrays(asked.data)
        workload = Workload(
            "arrays", "arrays", "workloads.models.users:numbered",
            asked.losses or CLASSIFICATION, goal_of(asked, None),
        )  # fmt: skip
    else:
        given = asked.workload
        assert given is not None, "it was checked"
        workload = get(given) if isinstance(given, str) else given
        dataset = datasets.load(workload.dataset, data_dir, **workload.dataset_options)
    if asked.traced:
        known = {**workload.hyperparameters, **dict.fromkeys(asked.traced, 0.0)}
        workload = dataclasses.replace(workload, hyperparameters=known)
    goal = goal_of(asked, workload)
    examples = dataset.size("train")
    sizes = asked.checked.ranges.get("batch_size")
    largest = asked.batch_size if sizes is None else int(greatest(sizes))
    if largest > examples:
        raise ValueError(f"batch_size must lie in 1..{examples} (the training set), got {largest}")
    spare = dataset.splits["validation"] if asked.refits else None
    data = ResidentData.put(dataset.splits, min(TRAIN_EVALUATION_EXAMPLES, examples), spare=spare)
    resolve(workload.losses)
    task = SearchTask(
        workload, goal, asked.optimizer, asked.schedule, asked.fixed, data, asked.budget,
        asked.weights,
    )  # fmt: skip
    return task, dataset


def _arrays(data: Mapping[str, Any]) -> Dataset:
    """A dataset of a user's arrays."""
    splits = {}
    for split in ("train", "validation"):
        try:
            inputs, targets = map(np.asarray, data[split])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"data must map train and validation to (inputs, labels), got {list(data)!r}"
            ) from error
        if inputs.ndim < 1 or len(inputs) != len(targets) or not len(inputs):
            raise ValueError(
                f"data {split} must hold as many labels as inputs, got {inputs.shape} and "
                f"{targets.shape}"
            )
        splits[split] = {"inputs": inputs, "targets": targets}
    return Dataset("arrays", splits, source="given as arrays")


def pruner_of(asked: UserSearch, task: SearchTask | None) -> Pruner:
    """The pruner with its numbers; refuses a search that it cannot serve."""
    direction = task.goal.direction if task else asked.direction
    pruner = Pruner(asked.pruner, asked.budget, asked.eta, direction != "max", asked.rounding)
    pruner.check(_trials(asked, pruner))
    if asked.proposer is not None:
        if pruner.at_once or pruner.name == "hyperband":
            raise ValueError(
                f"pruner must be none, patience or extrapolation: {asked.pruner} compares all "
                f"trials at once, and {asked.proposer.name} asks for them in rounds"
            )
    elif pruner.name == "extrapolation" and not SAMPLERS[asked.sampler].adaptive:
        learning = ", ".join(name for name, row in SAMPLERS.items() if row.adaptive)
        raise ValueError(
            f"sampler must be one of {learning} with the pruner extrapolation, which compares a "
            f"trial with earlier rounds, got {asked.sampler!r}"
        )
    elif pruner.at_once and SAMPLERS[asked.sampler].adaptive:
        plain = ", ".join(name for name, row in SAMPLERS.items() if not row.adaptive)
        raise ValueError(
            f"sampler must be one of {plain} with the pruner {asked.pruner}, which compares all "
            f"trials at once, got {asked.sampler!r}"
        )
    return pruner


def _trials(asked: UserSearch, pruner: Pruner) -> int:
    if asked.trials is not None:
        return asked.trials
    return pruner.round_of_brackets if asked.pruner == "hyperband" else 20


def described_of(asked: UserSearch, pruner: Pruner, task: SearchTask | None) -> dict[str, Any]:
    """The question as the record holds it, under ``study``."""
    described: dict[str, Any] = {
        "name": asked.name,
        "question": asked.question,
        "expected": asked.expected,
        "kind": KIND,
        "of": "build" if task else "objective",
        "trials": _trials(asked, pruner),
        "seeds": [asked.seed],
        "batch_sizes": [],
        "train_steps": {},
        "space": asked.checked.to_json(),
        "names": list(asked.checked.ranges),
        "sampler": asked.proposer.name if asked.proposer else asked.sampler,
        "pruner": {"name": pruner.name, "resource": pruner.resource, "eta": pruner.eta,
                   "rounding": pruner.rounding},
        "patience": asked.patience,
        "min_delta": asked.min_delta,
        "column": task.goal.column if task else f"validation/{asked.metric or 'value'}",
        "direction": "min" if pruner.minimize else "max",
        "unit": asked.unit or ("epochs" if task else "units"),
        "unit_examples": task.data.examples if task else 1,
        "code": loading.code_of_function(asked.build or asked.objective),
    }  # fmt: skip
    if asked.proposer:
        described["proposer"] = asked.proposer.describe()
    if asked.weights is not None:  # recorded identities know no default of them
        described |= {"weights": True, "slots": asked.slots}
    if task:
        described |= {
            "workload": {**task.workload.describe(), "model": None, "model_options": {}},
            **{field: " or ".join(asked.parts(field)) for field in CHOSEN_PARTS},
            "fixed": task.numbers(asked.fixed),
            "batch_size": asked.batch_size,
        }
    return described


_MAY_CHANGE = ("name", "question", "expected", "unit", "trials", "batch_sizes", "train_steps")


def header_of(
    described: Mapping[str, Any], asked: UserSearch, dataset: Dataset | None
) -> dict[str, Any]:
    """The content of study.json."""
    data = dataset.describe() if dataset else {"name": "none", "checksum": ""}
    fixed = {name: value for name, value in described.items() if name not in _MAY_CHANGE}
    text = json.dumps([fixed, data["checksum"]], sort_keys=True)
    names = [name for name in sorted(asked.checked.ranges) if name != "batch_size"]
    return {
        "identity": hashlib.sha256(text.encode()).hexdigest()[:32],
        "study": dict(described),
        "dataset": data,
        "hyperparameters": names,
        "environment": environment(),
    }
