"""``batchscale verdict``: every check of a study, or the verdict of a procedure."""

from __future__ import annotations

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

_VERDICT = "verdict.json"


def add(commands: Any) -> None:
    """The command ``verdict``."""
    verdict = commands.add_parser("verdict", help="what to make of a study, check by check")
    verdict.add_argument(
        "folder", type=Path, metavar="DIR", help="a record, or a procedure's folder"
    )
    verdict.add_argument("--json", action="store_true", help="as JSON, evidence included")
    verdict.set_defaults(function=verdict_command)


def verdict_command(options: argparse.Namespace) -> int:
    """Print the checks of a study, of each study of a comparison, or a procedure's verdict."""
    found = verdict_of(options.folder)
    if options.json:
        print(json.dumps(found, indent=2))
        return 0
    print("\n".join(_lines(found)))
    return 0


def verdict_of(folder: Path) -> dict[str, Any]:
    """The verdict on a folder as JSON values.

    Raises:
      RecordError: it holds no record, or a damaged one, or a procedure that has no verdict yet.
    """
    from experiments.analysis.checks import checks_of
    from experiments.analysis.compare import read_compared
    from experiments.analysis.summary import summarise
    from experiments.records.comparisons import is_comparison
    from experiments.records.files import RecordError
    from experiments.records.schema import PROCEDURE_FILE
    from experiments.records.seal import read_json
    from experiments.records.store import read

    if (folder / PROCEDURE_FILE).exists():
        if not (folder / _VERDICT).exists():
            kind = read_json(folder / PROCEDURE_FILE, "a procedure")["procedure"]
            raise RecordError(
                f"the {kind} in {folder} has no verdict yet: the command that began it goes on"
            )
        return read_json(folder / _VERDICT, "a verdict")
    if is_comparison(folder):
        names = read_compared(folder).members
        return {"studies": {name: verdict_of(folder / name) for name in names}}
    summary = summarise(read(folder))
    checks = checks_of(summary.question, summary.verdict)
    step = summary.verdict.next
    return {
        "study": summary.question.name,
        "clean": not checks,
        "checks": [check.to_json() for check in checks],
        "next": {"command": step.command, "reason": step.reason, "file_name": step.file_name,
                 "file_text": step.file_text},
    }  # fmt: skip


def _lines(found: dict[str, Any]) -> list[str]:
    if "studies" in found:
        return [
            line
            for name, one in found["studies"].items()
            for line in ("", f"{name}:", *_lines(one))
        ]
    if "procedure" in found:
        noted = [f"! {row['text']}" for row in found["findings"]]
        return [found["title"], found["answer"], *noted, *_next(found["next"])]
    if found["clean"]:
        return [f"{found['study']}: no check speaks against it.", *_next(found["next"])]
    lines = [f"{found['study']}: {len(found['checks'])} findings"]
    for row in found["checks"]:
        name = row["check"].replace("_", " ")
        lines.append(f"\n{row['severity']:<7} {name}")
        lines += textwrap.wrap(row["sentence"], 92, initial_indent="  ", subsequent_indent="  ")
        if row["next"]["command"]:
            lines.append(f"  next: {row['next']['command']}")
    return [*lines, *_next(found["next"])]


def _next(step: dict[str, Any]) -> list[str]:
    command = [f"\nNext: {step['command']}"] if step["command"] else [""]
    shown = " The report shows the file." if step["file_name"] and step["command"] else ""
    return [*command, *textwrap.wrap(step["reason"] + shown, 92)]
