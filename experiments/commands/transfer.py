"""``--rule``: the best trial of one batch size, taken to the others by a rule, not by a search."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.spec.fields import StudyFields
    from experiments.spec.trial import Transfer

SEEDS = 6
"""Times a configuration is trained at every batch size unless ``--seeds`` says otherwise."""


def of_best_trial(study: StudyFields, source: Path | None, folder: Path | None) -> StudyFields:
    """The study of one configuration, its rule's batch size's best, with fresh seeds.

    The configuration is chosen once, from the record ``source`` (default: runs/STUDY), when the
    study's own record is begun; one that goes on keeps it, although the source may have grown.
    Where trials stop, these end at the goal; none is pruned.

    Raises:
      ValueError: there is no such record, no trial of that batch size reached the goal there, or
        it is of another optimizer, schedule or clipping.
    """
    from experiments.spec.study import resolve, unpruned

    rule = study.rule
    assert rule is not None
    source = source or Path("runs") / study.name
    name = f"{study.name}-{rule.rule.replace(' ', '')}-from-{rule.batch_size}"
    asked = resolve(study)
    texts = {n: value for n, value in study.fixed.items() if isinstance(value, str)}
    kept = _begun(folder or Path("runs") / name, rule)
    values, last = kept or _chosen(source, rule, set(asked.hyperparameters), study.name)
    seeds, given = study.seeds, {word.partition("=")[0] for word in study.command}
    if "--seed" not in given:
        count = len(seeds) if "--seeds" in given else max(SEEDS, len(seeds))
        seeds = tuple(range(last + 1, last + 1 + count))
    return unpruned(
        study,
        name=name,
        space={},
        fixed={**values, **texts},
        trials=1,
        seeds=seeds,
        sampler="halton",
        stop="never" if study.stop == "never" else "goal",
    )


def _begun(folder: Path, rule: Transfer) -> tuple[dict[str, float | str], int] | None:
    """(fixed values, the seed before the first) of the record in ``folder``, where it has one."""
    from experiments.records.schema import STUDY_FILE
    from experiments.records.store import read_study

    if not (folder / STUDY_FILE).exists():
        return None
    held: Mapping[str, Any] = read_study(folder).get("study", {})
    if held.get("rule") != dataclasses.asdict(rule):
        return None  # another study's folder, which the run refuses
    return dict(held["fixed"]), held["seeds"][0] - 1


def _chosen(
    source: Path, rule: Transfer, names: set[str], study: str
) -> tuple[dict[str, float], int]:
    """(hyperparameters of the best trial at the rule's batch size, the record's largest seed)."""
    from experiments.analysis.rules import rules_from
    from experiments.analysis.view import view_of
    from experiments.records.files import RecordError
    from experiments.records.store import read

    try:
        view = view_of(read(source))
    except RecordError as error:
        raise ValueError(
            f"--rule takes the best trial at batch size {rule.batch_size} from a record: {error}; "
            f"batchscale run {study} --batch-sizes {rule.batch_size} makes one, --best-of DIR "
            "names another"
        ) from error
    theirs = set(view.question.hyperparameters)
    if theirs != names:
        differ = ", ".join(sorted(theirs ^ names))
        raise ValueError(f"--best-of {source} has other hyperparameters than this study: {differ}")
    best = rules_from(view).best
    if rule.batch_size not in best:
        there = ", ".join(map(str, sorted(best))) or "none"
        raise ValueError(
            f"--from must be a batch size that reached the goal in {source} ({there}), got "
            f"{rule.batch_size}"
        )
    chosen = best[rule.batch_size]
    return {name: float(chosen[name]) for name in sorted(names)}, max(view.question.seeds)
