"""The study that a command is about: its name or file, and the options that change it.

The options that change a field are those of its row (experiments/spec/fields.py); `CHANGES` says
how each kind of option does it.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.commands.arguments import mesh, settings, whole_number

if TYPE_CHECKING:
    from experiments.spec.fields import StudyFields
    from experiments.spec.rows import FieldRow
    from experiments.spec.user_search import UserSearch

_OF_ONE_STUDY = ("part", "fix", "rule", "from")
"""Kinds of options that change one study and no comparison."""
_OF_STUDIES = ("best-of", "parallel", "mesh", "micro-batch")
"""Options beside those of the rows that change studies and comparisons alone."""
REPEATED = ("best_of", "out", "data_dir")
"""Options beside those of the rows that the command which goes on with a study repeats."""


def add_study_arguments(command: argparse.ArgumentParser, without: Sequence[str] = ()) -> None:
    """Add the arguments that name a study and change it, but the options ``without``, and those
    of what its steps run on."""
    command.add_argument(
        "study", metavar="STUDY", help="a name (batchscale list studies) or a .py file"
    )
    command.add_argument("--smoke", action="store_true", help="the same question, in miniature")
    add_field_options(command, without=without)
    command.add_argument(
        "--best-of", type=Path, metavar="DIR",
        help="with --rule: the record that holds the best trial (runs/STUDY)",
    )  # fmt: skip
    command.add_argument(
        "--parallel",
        choices=("pmap", "shard_map"),
        help="every trial over all devices (default: measured)",
    )
    command.add_argument(
        "--mesh", type=mesh, metavar="trials=T,data=D", help="T groups of D devices (shard_map)"
    )
    command.add_argument(
        "--micro-batch",
        type=whole_number(1),
        metavar="M",
        help="at most M examples at a time on a device: saves memory, no time",
    )
    command.add_argument("--data-dir", metavar="DIR", help="folder of the dataset's files")
    command.add_argument(
        "--stream",
        action="store_true",
        default=None,
        help="read training data from disk while training (beyond 2 GiB always)",
    )


def add_field_options(
    command: argparse.ArgumentParser,
    rows: Mapping[str, FieldRow] | None = None,
    without: Sequence[str] = (),
) -> None:
    """One option for every flag of the rows, those of a study unless given."""
    for flag, row in _options(rows).items():
        if flag not in without:
            _add_option(command, flag, row)


def _options(rows: Mapping[str, FieldRow] | None = None) -> dict[str, FieldRow]:
    """Flag -> the first row that has it, in the order of the rows."""
    from experiments.spec.fields import ROWS

    found: dict[str, FieldRow] = {}
    for row in (ROWS if rows is None else rows).values():
        for option in (row.option, *row.also):
            if option is not None:
                found.setdefault(option.flag, dataclasses.replace(row, option=option))
    return found


def _add_option(command: argparse.ArgumentParser, flag: str, row: FieldRow) -> None:
    from experiments.spec import kinds

    option = row.option
    assert option is not None
    if option.change in ("flag", "off"):
        action = "store_true" if option.change == "flag" else "store_false"
        command.add_argument(f"--{flag}", action=action, default=None, help=option.help)
        return
    whole = option.change in ("count", "from")
    low: int | None = 1 if whole else getattr(row.kind, "low", None)
    numbers = option.change in ("value", "values", "only", "count", "from") and low is not None
    kind: Callable[[str], Any] = float if isinstance(row.kind, kinds.RealAbove) else str
    command.add_argument(
        f"--{flag}",
        type=whole_number(low) if numbers and low is not None else kind,
        nargs="+" if option.several else None,
        metavar=option.metavar,
        help=option.help,
    )


def chosen_study(options: argparse.Namespace) -> Any:
    """The study, comparison or paths that was asked for, with the options' changes."""
    from experiments import studies
    from experiments.spec.comparison import Comparison
    from experiments.spec.paths import Paths
    from experiments.spec.user_search import UserSearch

    study = studies.get(options.study, smoke=options.smoke)
    given = {
        flag: value
        for flag in _options()
        if (value := getattr(options, _destination(flag), None)) is not None
    }
    if isinstance(study, Paths):
        _refuse(
            study.name,
            *given,
            *(f for f in _OF_STUDIES if getattr(options, _destination(f), None) is not None),
        )
        return study
    if isinstance(study, UserSearch):
        return _changed_search(study, given, options)
    if isinstance(study, Comparison):
        rows = _options()
        _refuse(study.name, *(f for f in given if _change(rows[f]) in _OF_ONE_STUDY))
    study = studies.changed(study, command=_words(options, given))
    for kind, change in CHANGES.items():
        for flag, value in given.items():
            if _change(_options()[flag]) == kind:
                study = change(study, _options()[flag], value)
    return _by_rule(study, options, "rule" in given)


def _by_rule(study: Any, options: argparse.Namespace, ruled: bool) -> Any:
    """The study of the best trial of one batch size, where ``--rule`` asks for it."""
    if not ruled:
        if options.best_of is not None:
            raise ValueError("--best-of goes with --rule")
        return study
    from experiments.commands.transfer import of_best_trial

    return of_best_trial(study, options.best_of, getattr(options, "out", None))


SEARCH_OPTIONS = {
    "trials": "trials",
    "seed": "seed",
    "sampler": "sampler",
    "pruner": "pruner",
    "resource": "budget",
    "eta": "eta",
    "rounding": "rounding",
    "patience": "patience",
}
"""Options of a study that a search over a user's own model or function has too -> its field."""


def _changed_search(study: UserSearch, given: Mapping[str, Any], options: Any) -> UserSearch:
    """A search over a user's own with those of its fields that options changed."""
    others = [f for f in (*_OF_STUDIES, "stream")
              if getattr(options, _destination(f), None) is not None]  # fmt: skip
    _refuse(study.name, *(flag for flag in given if flag not in SEARCH_OPTIONS), *others)
    changes = {field: given[flag] for flag, field in SEARCH_OPTIONS.items() if flag in given}
    return dataclasses.replace(study, **changes)


def _destination(flag: str) -> str:
    return flag.replace("-", "_")


def _change(row: FieldRow) -> str:
    assert row.option is not None
    return row.option.change


def _refuse(study: str, *flags: str) -> None:
    """ValueError where an option was given that cannot change this kind of study."""
    for flag in flags:
        raise ValueError(f"--{flag} has no place in {study}")


def _words(options: argparse.Namespace, given: Mapping[str, Any]) -> tuple[str, ...]:
    """Words typed after ``batchscale run``, as far as they name and change the study."""
    words = [options.study, *(["--smoke"] if options.smoke else [])]
    others = {name: getattr(options, name, None) for name in REPEATED}
    for flag, value in [*given.items(), *others.items()]:
        if value is None:
            continue
        words.append(f"--{flag.replace('_', '-')}")
        if not isinstance(value, bool):
            words += [str(word) for word in (value if isinstance(value, list) else [value])]
    return tuple(words)


# How an option changes a study or, alike, the studies of a comparison.


def _value(study: Any, row: FieldRow, value: Any) -> Any:
    from experiments import studies

    return studies.changed(study, **{row.name: value})


def _values(study: Any, row: FieldRow, value: Any) -> Any:
    return _value(study, row, tuple(value))


def _only(study: Any, row: FieldRow, value: Any) -> Any:
    return _value(study, row, (value,))


def _count(study: Any, row: FieldRow, value: int) -> Any:
    """So many searches, from the study's first seed on."""
    from experiments import studies
    from experiments.spec.comparison import Comparison
    from experiments.spec.fields import MOST_SEEDS

    del row
    if value > MOST_SEEDS:
        raise ValueError(f"--seeds must be at most {MOST_SEEDS:,}, got {value}")
    one = next(iter(study.studies.values())) if isinstance(study, Comparison) else study
    first = one.seeds[0]
    return studies.changed(study, seeds=tuple(range(first, first + value)))


def _budgets(study: Any, row: FieldRow, texts: Sequence[str]) -> Any:
    """Other budgets: in steps, or in examples or epochs."""
    from experiments import studies
    from experiments.spec.comparison import Comparison
    from experiments.spec.study import resolve
    from schedules.durations import parse

    del row
    first = next(iter(study.studies.values())) if isinstance(study, Comparison) else study
    one = resolve(first)
    changes: dict[str, Any] = {}
    suffix = ""
    for duration in map(parse, texts):
        if duration.unit == "fraction":
            raise ValueError(f"--budget must be in steps, examples or epochs, got {duration}")
        field = "step_budget" if duration.unit == "steps" else "example_budget"
        if field in changes:
            raise ValueError(f"--budget takes one {field}, got {' and '.join(texts)}")
        # At one example a step, steps are examples.
        changes[field] = duration.steps(1, one.train_size)
        suffix += f"-{duration.amount:.12g}{duration.unit}"
    if all(getattr(one, field) == value for field, value in changes.items()):
        return study
    named = {} if isinstance(study, Comparison) else {"name": study.name + suffix}
    study = studies.changed(study, **named, **changes)
    if isinstance(study, Comparison):
        study = dataclasses.replace(study, name=study.name + suffix)
    return study


def _part(study: StudyFields, row: FieldRow, name: str) -> StudyFields:
    """Another optimizer, schedule, clipping, ... in its own search space; the rest stays."""
    from experiments.spec import parts
    from optimizers import OPTIMIZERS

    field = row.name
    parts.check(field, name)
    before = getattr(study, field)
    if name == before:
        return study
    theirs = {row.name for row in parts.rows(field, before)}
    if field == "optimizer":
        own, space = theirs, None
    else:
        own = theirs - {row.name for row in parts.rows(field, name)}
        space = _space_with(study, field, name, own)
    fixed = {name: value for name, value in study.fixed.items() if name not in own}
    changes: dict[str, Any] = {field: name, "name": f"{study.name}-{name}"}
    if field == "optimizer" and OPTIMIZERS[name].needs_value_fn:
        changes["stop"] = "never"  # its answer is counted in function evaluations too
    return dataclasses.replace(study, space=space, fixed=fixed, **changes)


def _space_with(study: StudyFields, field: str, name: str, own: set[str]) -> Any:
    """A stated search space with the ranges of a part in place of its predecessor's ``own``."""
    from experiments.spec import parts

    if study.space is None:
        return None
    if field == "batch_size_schedule":  # where the batch grows is the same in all trials
        own = own | ({row.name for row in parts.rows("schedule", study.schedule)} - {*study.fixed})
    ranges = {row.name: row.space for row in parts.rows(field, name) if row.space}
    kept = {name: found for name, found in study.space.items() if name not in own}
    return {n: found for n, found in {**kept, **ranges}.items() if n not in study.fixed}


def _fix(study: StudyFields, row: FieldRow, pairs: Sequence[str]) -> StudyFields:
    """Hyperparameters held at a number or a duration, no longer searched."""
    del row
    given: dict[str, float | str] = dict(settings(pairs, "--fix"))
    for name, text in given.items():
        with contextlib.suppress(ValueError):  # a duration, or what the study refuses by name
            given[name] = float(text)
    space = study.space
    if space is not None:
        space = {name: found for name, found in space.items() if name not in given}
    return dataclasses.replace(
        study,
        name="-".join([study.name, *(pair.replace(" ", "") for pair in pairs)]),
        space=space,
        fixed={**study.fixed, **given},
    )


def _rule(study: StudyFields, row: FieldRow, rule: str) -> StudyFields:
    """By this rule from the smallest batch size, unless ``--from`` names another."""
    from experiments.spec.trial import Transfer

    return dataclasses.replace(study, rule=Transfer(rule, min(study.batch_sizes)))


def _from(study: StudyFields, row: FieldRow, batch_size: int) -> StudyFields:
    if study.rule is None:
        raise ValueError("--from goes with --rule")
    return dataclasses.replace(study, rule=dataclasses.replace(study.rule, batch_size=batch_size))


CHANGES: dict[str, Callable[[Any, FieldRow, Any], Any]] = {
    "value": _value,
    "values": _values,
    "only": _only,
    "count": _count,
    "flag": _value,
    "off": _value,
    "budget": _budgets,
    "part": _part,
    "fix": _fix,
    "rule": _rule,
    "from": _from,
}
"""Kind of option -> what it does, in the order in which options take effect."""
