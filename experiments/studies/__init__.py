"""One file a scientific question: its docstring holds question, command, time, expected result.

A file defines ``STUDY`` (a `Study`, a `Comparison` of several, or `Paths`) and may define
``SMOKE``, the same question shrunk to a minute or so.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from pathlib import Path
from types import ModuleType

from experiments.spec.comparison import Comparison
from experiments.spec.loading import load_file
from experiments.spec.paths import Paths
from experiments.spec.study import Study
from workloads.registry import unknown_name

STUDIES: dict[str, str] = {
    "quickstart": "experiments.studies.quickstart",
    "fashion_mnist_cnn": "experiments.studies.fashion_mnist_cnn",
    "fashion_mnist_fc": "experiments.studies.fashion_mnist_fc",
    "noisy_quadratic": "experiments.studies.noisy_quadratic",
    "optimizers_digits": "experiments.studies.optimizers_digits",
    "optimizer_paths": "experiments.studies.optimizer_paths",
    "second_order_digits": "experiments.studies.second_order_digits",
    "text_transformer": "experiments.studies.text_transformer",
}


def get(name: str, smoke: bool = False) -> Study | Comparison | Paths:
    """The study called ``name``, or in the Python file of that path; its smoke variant if asked.

    Raises:
      ValueError: an unknown name (the message lists the known ones), a file that is not there,
        that fails, or that defines no STUDY.
    """
    module = load_file(Path(name)) if name.endswith(".py") else _from_registry(name)
    study = getattr(module, "STUDY", None)
    if not isinstance(study, (Study, Comparison, Paths)):
        raise ValueError(  # noqa: TRY004 (bad input is always a ValueError)
            f"study file {name} must define STUDY, an experiments.spec.study.Study"
        )
    if smoke:
        study = getattr(module, "SMOKE", None) or shrunk(study)
    if name.endswith(".py") and isinstance(study, Study):
        return dataclasses.replace(study, source=name)
    return study


def _from_registry(name: str) -> ModuleType:
    if name not in STUDIES:
        raise unknown_name("study", name, STUDIES)
    return importlib.import_module(STUDIES[name])


def shrunk(study: Study | Comparison | Paths) -> Study | Comparison | Paths:
    """A smoke variant: three batch sizes, four trials, a tenth of the budgets or the steps."""
    if isinstance(study, Paths):
        steps = math.ceil(study.steps / 10)
        return dataclasses.replace(study, name=f"{study.name}-smoke", steps=steps)
    if isinstance(study, Comparison):
        studies = {label: _shrunk(member) for label, member in study.studies.items()}
        return dataclasses.replace(study, name=f"{study.name}-smoke", studies=studies)
    return _shrunk(study)


def _shrunk(study: Study) -> Study:
    sizes = study.batch_sizes
    return dataclasses.replace(
        study,
        name=f"{study.name}-smoke",
        batch_sizes=tuple({sizes[0], sizes[len(sizes) // 2], sizes[-1]}),
        train_steps={},
        trials=4,
        step_budget=math.ceil(study.step_budget / 10),
        example_budget=math.ceil(study.example_budget / 10),
    )
