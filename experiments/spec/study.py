"""A study: a search at each of a set of batch sizes, checked at construction.

    from experiments.spec.study import Study

`Study` is what a user fills in. `resolve` makes of it the complete `ResolvedStudy` that every
other room reads; `continued` does so for a study whose record was begun already. Imports no jax.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from experiments.spec import checks, loading, parts
from experiments.spec import space as spaces
from experiments.spec.fields import (
    DEFAULT_SAMPLER,
    ROWS,
    WITHOUT_A_SPACE,
    StudyFields,
    documented,
)
from experiments.spec.parts import PARTS
from experiments.spec.resolved import ResolvedStudy
from optimizers import OPTIMIZERS
from workloads.datasets import DATASETS
from workloads.registry import unknown_name


@dataclasses.dataclass(frozen=True)
class Study(StudyFields):
    """The whole question, as typed. Scalars in steps or examples as their names say.

    Raises ValueError, in one line that names field, value and what is allowed, where it cannot
    be run.
    """

    def __post_init__(self) -> None:
        _ = self.resolved

    @functools.cached_property
    def resolved(self) -> ResolvedStudy:
        """The complete study, with the user's code as it was when this one was made."""
        return _resolved(self)


Study.__doc__ = f"{Study.__doc__}\n    {documented()}\n    "


def as_typed(study: StudyFields, **changes: Any) -> Study:
    """The study with these fields changed, as a form whose defaults are still to be taken."""
    return Study(**{name: getattr(study, name) for name in ROWS} | changes)


Fields = TypeVar("Fields", bound=StudyFields)


def unpruned(study: Fields, **changes: Any) -> Fields:
    """The study with these fields changed, whose trials all train to their full length.

    A pruner compares the trials of a search; a configuration that was chosen is trained to its end.
    """
    return dataclasses.replace(study, pruner="none", patience=None, **changes)


def resolve(study: StudyFields) -> ResolvedStudy:
    """The complete study: every field in its normal form, defaults taken, all of it checked.

    Raises:
      ValueError: one line that names the field, the value and what is allowed.
    """
    return study.resolved if isinstance(study, Study) else _resolved(study)


def _resolved(study: StudyFields) -> ResolvedStudy:
    values = {name: row.kind.check(name, getattr(study, name)) for name, row in ROWS.items()}
    workload = values["workload"]
    if workload.dataset not in DATASETS:
        raise unknown_name("dataset", workload.dataset, DATASETS)
    values["goal"] = values["goal"] or workload.goal
    if values["space"] is None:
        values["space"] = _default_space(values)
    values["sampler"] = values["sampler"] or (
        DEFAULT_SAMPLER
        if values["space"] and values["pruner"] == "none"
        else WITHOUT_A_SPACE  # nothing to learn, or pruners that compare all trials at once
    )
    values["code"] = values["code"] or loading.code_of(workload, values["source"])
    complete = ResolvedStudy(**values)
    checks.check(complete)
    return complete


def continued(
    study: StudyFields, recorded: Mapping[str, Any], allow_changed_code: bool = False
) -> ResolvedStudy:
    """The study as it goes on in a folder that holds ``recorded``, the content of study.json.

    A search space and a sampler that were taken by default stay those the record was begun with,
    although the number of trials they were taken for has grown. Changed code keeps the recorded
    identity where that is allowed, or was before.

    Raises:
      ValueError: as `resolve`; or the user's code is not what the record was begun with.
    """
    complete = resolve(study)
    described, dataset = recorded.get("study"), recorded.get("dataset")
    if not (isinstance(described, Mapping) and isinstance(dataset, Mapping)):
        return complete  # nothing was begun, or it is no study's record, which says so itself
    code = ROWS["code"].kind.read("code", described.get("code", {}))
    begun = [complete]
    kept: dict[str, Any] = {
        name: ROWS[name].kind.read(name, described[name])
        for name in ("space", "sampler")
        if getattr(study, name) is None and name in described
    }
    if kept:
        begun.append(dataclasses.replace(complete, **kept))
    checksum = dataset.get("checksum", "")
    for changed in (False, True):
        for candidate in begun:
            found = dataclasses.replace(candidate, code=code) if changed else candidate
            if found.identity(checksum) == recorded.get("identity"):
                known = complete.code in recorded.get("changed_code", [])
                if changed and not (allow_changed_code or known):
                    raise ValueError(
                        f"{_difference(code, complete.code)}: give another folder with --out, or "
                        "--allow-changed-code to go on and record the change"
                    )
                return found
    return complete


def reopened(recorded: Mapping[str, Any]) -> ResolvedStudy:
    """The study of a record, from the content of its study.json, with the user's file loaded.

    Raises:
      ValueError: a field is missing or damaged, or the user's file is not there or has changed.
    """
    study = ResolvedStudy.from_description(recorded.get("study", {}))
    if study.source:
        loading.load_file(Path(study.source))  # its models are found by name once it is loaded
    now = loading.code_of(study.workload, study.source)
    if now not in (study.code, *recorded.get("changed_code", [])):
        raise ValueError(f"{_difference(study.code, now)}: its trials cannot be repeated")
    return study


def _difference(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say which code is not what a record was begun with."""
    files = [name for name in {**then, **now} if then.get(name) != now.get(name)]
    first = ", ".join(
        f"sha256 {table[name][:12]} {when}"
        for name in files[:1]
        for table, when in ((then, "then"), (now, "now"))
        if name in table
    )
    return f"{' and '.join(files)} changed since the record was begun ({first})"


def _default_space(values: Mapping[str, Any]) -> dict[str, spaces.Distribution]:
    """The optimizer's ranges, the workload's own where it has some, and those of other parts."""
    workload, optimizer = values["workload"], values["optimizer"]
    published = workload.search_spaces.get(optimizer)
    own = OPTIMIZERS[optimizer].spaces(values["trials"]) if published is None else published
    cut = values["batch_size_schedule"] != "constant" and values["batch_size_cuts"] is None
    ranges: dict[str, Any] = {}
    known = set(workload.hyperparameters)
    for field in PARTS:
        rows = parts.rows(field, values[field])
        if field == "schedule" and cut:  # where the batch grows is the same in all trials
            continue
        known |= {row.name for row in rows}
        if field != "optimizer":
            ranges |= {row.name: row.space for row in rows if row.space}
    ranges |= {name: data for name, data in own.items() if name in known}
    return {
        name: spaces.from_json(data) for name, data in ranges.items() if name not in values["fixed"]
    }
