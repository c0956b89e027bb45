"""The samplers by name: "module:function", imported when one is used."""

from __future__ import annotations

import dataclasses
import importlib

from experiments.search.samplers.base import Sampler
from workloads.registry import unknown_name


@dataclasses.dataclass(frozen=True)
class SamplerRow:
    """A sampler of the table.

    Attributes:
      function: "module:function" in this package.
      adaptive: whether its points depend on earlier results, so that it must wait for them.
      meaning: a line for lists.
      extra: the installation extra that it needs, or "".
    """

    function: str
    adaptive: bool
    meaning: str
    extra: str = ""


SAMPLERS: dict[str, SamplerRow] = {
    "halton": SamplerRow("halton:propose", False, "quasi-random: scrambled, shifted Halton points"),
    "random": SamplerRow("random:propose", False, "independent uniform points"),
    "grid": SamplerRow("grid:propose", False, "a full grid in shuffled order"),
    "rounds": SamplerRow(
        "rounds:propose", True, "coarse to fine, batch sizes learn from neighbours"
    ),
    "gp": SamplerRow("gp:propose", True, "Gaussian process over hyperparameters and batch size"),
    "tpe": SamplerRow("tpe:propose", True, "tree-structured Parzen estimators (Optuna)", "search"),
    "cma": SamplerRow("cma:propose", True, "covariance matrix adaptation (cmaes)", "search"),
}


def sampler(name: str) -> Sampler:
    """The sampler of this name.

    Raises:
      UnknownNameError: no such sampler; lists those there are.
      ValueError: its library is not installed; says how to install it.
    """
    if name not in SAMPLERS:
        raise unknown_name("sampler", name, SAMPLERS)
    row = SAMPLERS[name]
    module, function = row.function.split(":")
    try:
        found = importlib.import_module(f"experiments.search.samplers.{module}")
    except ModuleNotFoundError as error:
        if not row.extra:
            raise
        raise ValueError(
            f'sampler {name} needs {error.name}: pip install "batchscale[{row.extra}]"'
        ) from error
    result: Sampler = getattr(found, function)
    return result
