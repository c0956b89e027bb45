"""A study as the text of a Python file that states its fields and runs by itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from experiments.spec import space as spaces
from experiments.spec.fields import ROWS, StudyFields
from experiments.spec.trial import Precision, Transfer
from workloads.base import Goal, Workload

_LEFT_OUT = ("source", "code", "command")  # of the study it is taken from
_CLASSES = {
    spaces.Real: "experiments.spec.space",
    spaces.Integer: "experiments.spec.space",
    spaces.ZeroOrLog: "experiments.spec.space",
    spaces.Choice: "experiments.spec.space",
    Precision: "experiments.spec.trial",
    Transfer: "experiments.spec.trial",
    Goal: "workloads.base",
    Workload: "workloads.base",
}


def study_file(study: StudyFields, says: str, **changes: Any) -> str:
    """The file that defines ``STUDY`` as ``study`` with these fields changed.

    Every value is written as Python's literal of it, so that any legal name or number is read
    back as it was. Models, losses and datasets of a user's file are found by loading it first.
    """
    values = {
        name: changes.get(name, getattr(study, name))
        for name, row in ROWS.items()
        if name not in _LEFT_OUT
        and (row.required or changes.get(name, getattr(study, name)) != row.default)
    }
    body = [f"    {name}={_source(value, f'    {name}=')}," for name, value in values.items()]
    used = {
        kind: module for kind, module in _CLASSES.items() if f"{kind.__name__}(" in "".join(body)
    }
    modules: dict[str, list[str]] = {"experiments.spec.study": ["Study"]}
    for kind, module in used.items():
        modules.setdefault(module, []).append(kind.__name__)
    loads = ""
    if study.source:
        modules |= {"pathlib": ["Path"], "experiments.spec.loading": ["load_file"]}
        loads = f"load_file(Path({study.source!r}))  # defines what the workload may name\n\n"
    imports = "".join(
        f"from {module} import {', '.join(sorted(names))}\n"
        for module, names in sorted(modules.items(), key=lambda item: (item[0] != "pathlib", item))
    )
    imports = imports.replace("import Path\n", "import Path\n\n")
    fields = "\n".join(body)
    return f"{_docstring(says)}\n\n{imports}\n{loads}STUDY = Study(\n{fields}\n)\n"


def _docstring(text: str) -> str:
    plain = " ".join(text.split()).replace("\\", "\\\\").replace('"', '\\"')
    return f'"""{plain}"""'


def _source(value: Any, before: str) -> str:
    """``value`` as Python source, broken over lines where it does not fit behind ``before``."""
    text = _one_line(value)
    margin = " " * (len(before) - len(before.lstrip()))
    if len(before) + len(text) < 100 or not isinstance(value, (Mapping, Workload)):
        return text
    if isinstance(value, Workload):
        pairs = [(f"{name}=", item) for name, item in _given(value).items()]
        opened, closed = "Workload(", ")"
    else:
        pairs = [(f"{key!r}: ", item) for key, item in value.items()]
        opened, closed = "{", "}"
    inner = margin + "    "
    lines = [f"{inner}{key}{_source(item, inner + key)}," for key, item in pairs]
    return "\n".join([opened, *lines, margin + closed])


def _one_line(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {_one_line(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Workload):
        return f"Workload({', '.join(f'{k}={_one_line(v)}' for k, v in _given(value).items())})"
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return f"float({str(value)!r})"
    return repr(value)


def _given(workload: Workload) -> dict[str, Any]:
    """The arguments of a workload that are not its defaults."""
    described = workload.describe() | {"goal": workload.goal}
    fields = {field.name: field for field in dataclasses.fields(Workload)}
    return {
        name: described[name]
        for name in fields
        if name in described and described[name] not in ({}, None, "")
    }
