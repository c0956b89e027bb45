"""The remedies for an instability in the Tuning Playbook's order, each a command.

Warmup (early instability), clipping (early and mid-training), another optimizer, the architecture
(normalise inside the branch, x + f(Norm(x)), start branches at zero), a lower rate last.
procedures/remedies.py tries them.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from experiments.procedures.proposed import (
    clipping,
    in_another,
    procedure,
    run_file,
    values,
    with_values,
)
from experiments.procedures.rates import Sweep
from experiments.procedures.variants import RATE, Base, changed
from workloads.registry import resolve as attribute

WELL_LIKED = ("adam", "nesterov", "nadam")
"""The playbook's well-liked optimizers; the first that is not in use is the other one to try."""
WARMUPS = tuple(10**k for k in range(1, 7))
WARMUP_SHARE = 0.1
"""At most a tenth of the run is warmup."""
LOWER_FILE, CURED_FILE = "lower_rate.py", "cured.py"
"""Study files in the folder of a diagnosis."""
ARCHITECTURE: tuple[Mapping[str, Any], ...] = (
    {"placement": "pre"},
    {"residual_start": "rezero"},
    {"residual_start": "zero_scale"},
)
"""Model options of workloads/models that the playbook's advice amounts to."""


@dataclasses.dataclass(frozen=True)
class ProposedRemedy:
    """A remedy and the command that tries it."""

    name: str
    sentence: str
    command: str


@dataclasses.dataclass(frozen=True)
class Tried:
    """A remedy that was tried.

    Attributes:
      name: of the remedy.
      cured: whether the unstable rate became stable (of another optimizer: whether it does at
        least as well at a rate that is stable).
      sentence: what was seen.
      settings: what held, by name.
    """

    name: str
    cured: bool
    sentence: str
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def words(subject: str, base: Base) -> str:
    """The words that name the subject in a proposed command."""
    return with_values(subject, "--batch-size", [str(base.batch_size)])


def warmups(steps: int) -> tuple[int, ...]:
    """Orders of magnitude from 10 on up to a tenth of the run, that tenth where none fits."""
    most = int(WARMUP_SHARE * steps)
    return tuple(w for w in WARMUPS if w <= most) or (max(1, most),)


def other_optimizer(name: str) -> str:
    """The well-liked optimizer to try in place of ``name``."""
    family = "adam" if "adam" in name else name
    return next(other for other in WELL_LIKED if other != family)


def architectures(base: Base) -> Iterator[Mapping[str, Any]]:
    """Model options of `ARCHITECTURE` that the workload's model has and does not use yet."""
    workload = base.study.workload
    factory = attribute(workload.model)
    for options in ARCHITECTURE:
        defaults = {k: p.default for k, p in inspect.signature(factory).parameters.items()}
        now = {**defaults, **workload.model_options}
        if all(now.get(k) == v for k, v in options.items()):
            continue
        try:
            factory(**{**workload.model_options, **options})
        except (TypeError, ValueError):
            continue
        yield options


def proposals(
    base: Base, found: Sweep, kind: str, command: str, folder: Path
) -> list[ProposedRemedy]:
    """The remedies in order, as commands."""
    other = other_optimizer(base.study.optimizer)
    lower = found.bracket.stable or found.best.rate
    listed = [
        ProposedRemedy(
            "warmup",
            "Warmup: the shortest that holds above the unstable rate.",
            procedure("warmup-search", command),
        ),
        ProposedRemedy(
            "clipping",
            "Clipping at a percentile of the gradient norms that were seen.",
            clipping(command),
        ),
        ProposedRemedy(
            "another optimizer",
            f"Another optimizer, {other}.",
            procedure(
                "diagnose", _with_optimizer(command, base, other), *in_another(folder, other)
            ),
        ),
        *(
            ProposedRemedy(
                "architecture",
                f"Architecture: {pairs(options)}.",
                procedure("diagnose", _with_model(command, options)),
            )
            for options in architectures(base)
        ),
        ProposedRemedy(
            "a lower rate",
            f"A lower rate: {lower:.4g} is the largest that was stable.",
            run_file(folder / LOWER_FILE),
        ),
    ]
    return listed[1:] if kind == "mid-training instability" else listed


def changes_of(base: Base, tried: Tried) -> dict[str, Any]:
    """The fields of a study that trains with a remedy that held."""
    settings = dict(tried.settings)
    optimizer = settings.pop("optimizer", base.study.optimizer)
    workload = base.study.workload
    if tried.name == "architecture":
        fixed = {**base.study.fixed, RATE: settings.pop(RATE)}
        options = {**workload.model_options, **settings}
        other = dataclasses.replace(workload, model_options=options)
        return {"workload": other, "fixed": fixed}
    fixed = {**base.study.fixed, **settings}  # less what only a replaced part has (`changed`)
    found: dict[str, Any] = {"optimizer": optimizer, "fixed": fixed}
    if tried.name == "clipping":
        found["clipping"] = "global_norm"
    if "warmup_steps" in settings:
        found["step_budget"] = base.steps + int(settings["warmup_steps"])
    return found


def pairs(options: Mapping[str, Any]) -> str:
    """'placement=pre', as an option is typed."""
    return " ".join(f"{k}={v}" for k, v in options.items())


def _with_optimizer(command: str, base: Base, other: str) -> str:
    """The words with another optimizer, whose rates are others, and of what they hold only what it
    has too."""
    kept = changed(base.study, optimizer=other, space=None).resolved.hyperparameters
    held = [pair for pair in values(command, "--hold") if pair.partition("=")[0] in kept]
    for option, given in (("--rates", []), ("--factor", []), ("--hold", held)):
        command = with_values(command, option, given)
    return with_values(command, "--optimizer", [other])


def _with_model(command: str, options: Mapping[str, Any]) -> str:
    """The words with these options of the model beside those they have."""
    known = [p for p in values(command, "--model") if p.partition("=")[0] not in options]
    return with_values(command, "--model", [*known, *pairs(options).split()])
