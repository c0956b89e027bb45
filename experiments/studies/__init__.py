"""One file a scientific question: its docstring holds question, command, time, expected result.

A file defines ``STUDY`` (a `Study`, a `Comparison` of several, a `UserSearch` or `Paths`) and may
define ``SMOKE``, the same question shrunk to a minute or so.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.spec.comparison import Comparison
from experiments.spec.fields import StudyFields
from experiments.spec.loading import load_file
from experiments.spec.paths import Paths
from experiments.spec.study import resolve
from experiments.spec.user_search import UserSearch
from experiments.spec.values import refuse
from workloads.registry import unknown_name

Defined = StudyFields | Comparison | Paths | UserSearch

STUDIES: dict[str, str] = {
    "quickstart": "experiments.studies.quickstart",
    "architecture_digits": "experiments.studies.architecture_digits",
    "autoclip": "experiments.studies.autoclip",
    "beta2_digits": "experiments.studies.beta2_digits",
    "budgets_digits": "experiments.studies.budgets_digits",
    "ensembles_digits": "experiments.studies.ensembles_digits",
    "ensembles_fashion": "experiments.studies.ensembles_fashion",
    "equal_noise_digits": "experiments.studies.equal_noise_digits",
    "fashion_mnist_cnn": "experiments.studies.fashion_mnist_cnn",
    "fashion_mnist_fc": "experiments.studies.fashion_mnist_fc",
    "fashion_mnist_search": "experiments.studies.fashion_mnist_search",
    "ghost_batch_norm_digits": "experiments.studies.ghost_batch_norm_digits",
    "growth_digits": "experiments.studies.growth_digits",
    "momentum_digits": "experiments.studies.momentum_digits",
    "noise_scale_digits": "experiments.studies.noise_scale_digits",
    "norm_placement_text": "experiments.studies.norm_placement_text",
    "noisy_quadratic": "experiments.studies.noisy_quadratic",
    "optimizers_digits": "experiments.studies.optimizers_digits",
    "optimizer_paths": "experiments.studies.optimizer_paths",
    "residual_norm_text": "experiments.studies.residual_norm_text",
    "rezero_depth": "experiments.studies.rezero_depth",
    "second_order_digits": "experiments.studies.second_order_digits",
    "small_and_large_digits": "experiments.studies.small_and_large_digits",
    "small_and_large_fashion": "experiments.studies.small_and_large_fashion",
    "small_and_large_keskar": "experiments.studies.small_and_large_keskar",
    "small_and_large_timit": "experiments.studies.small_and_large_timit",
    "text_transformer": "experiments.studies.text_transformer",
    "train_size_digits": "experiments.studies.train_size_digits",
    "training_spike": "experiments.studies.training_spike",
    "warm_start_digits": "experiments.studies.warm_start_digits",
    "wide_resnet_stride": "experiments.studies.wide_resnet_stride",
    "width_digits": "experiments.studies.width_digits",
}

SMOKE_TRIALS = 4


def get(name: str, smoke: bool = False) -> Defined:
    """The study called ``name``, or in the Python file of that path; its smoke variant if asked.

    Raises:
      ValueError: an unknown name (the message lists the known ones), a file that is not there,
        that fails, or that defines no STUDY.
    """
    module = load_file(Path(name)) if name.endswith(".py") else _from_registry(name)
    study = _defined(module, "STUDY", name)
    if smoke:
        study = _defined(module, "SMOKE", name) if hasattr(module, "SMOKE") else shrunk(study)
    known = isinstance(study, (StudyFields, Comparison))
    return changed(study, source=name) if known and name.endswith(".py") else study


def _defined(module: ModuleType, variable: str, name: str) -> Defined:
    study = getattr(module, variable, None)
    if not isinstance(study, Defined):
        raise refuse(
            f"{variable} of the study file {name}",
            "defined, as a Study(...) of experiments.spec.study, a Comparison, UserSearch or Paths",
            study,
        )
    return study


def changed(study: Defined, **changes: Any) -> Any:
    """The study, or every study of a comparison, with these fields; paths as they are."""
    if isinstance(study, Comparison):
        return study.changed(**changes)
    return study if isinstance(study, Paths) else dataclasses.replace(study, **changes)


def _from_registry(name: str) -> ModuleType:
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    return importlib.import_module(STUDIES[name])


def shrunk(study: Defined) -> Defined:
    """A smoke variant: three batch sizes, four trials or the fewest that a pruner takes, a tenth of
    the budgets or the steps; a search as it is."""
    if isinstance(study, UserSearch):
        return dataclasses.replace(study, name=f"{study.name}-smoke")
    if isinstance(study, Paths):
        steps = math.ceil(study.steps / 10)
        return dataclasses.replace(study, name=f"{study.name}-smoke", steps=steps)
    if isinstance(study, Comparison):
        studies = {label: _shrunk(member) for label, member in study.studies.items()}
        return dataclasses.replace(study, name=f"{study.name}-smoke", studies=studies)
    return _shrunk(study)


def _shrunk(study: StudyFields) -> StudyFields:
    from experiments.search.fidelity import Pruner

    sizes, steps = resolve(study).batch_sizes, math.ceil(study.step_budget / 10)
    resource = study.pruner_resource
    small = dataclasses.replace(
        study,
        name=f"{study.name}-smoke",
        batch_sizes=tuple({sizes[0], sizes[len(sizes) // 2], sizes[-1]}),
        train_steps={},
        trials=SMOKE_TRIALS,
        step_budget=steps,
        example_budget=math.ceil(study.example_budget / 10),
        pruner_resource=resource if study.pruner == "none" else min(resource, steps),
    )
    pruner = Pruner.of(resolve(small))
    if pruner is None or pruner.least <= SMOKE_TRIALS:
        return small
    return dataclasses.replace(small, trials=pruner.least)  # of which few train long
