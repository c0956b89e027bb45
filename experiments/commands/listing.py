"""``batchscale list``."""

from __future__ import annotations

import argparse
from typing import Any

from experiments.spec.parts import PARTS

LISTED = (
    "workloads",
    *(f"{field.replace('_', '-')}s" for field in PARTS),
    "samplers",
    "pruners",
    "rescalings",
    "studies",
)


def add(commands: Any) -> None:
    """The command ``list``."""
    listing = commands.add_parser("list", help="what there is to run")
    listing.add_argument("kind", nargs="?", choices=LISTED, help="default: all")
    listing.set_defaults(function=list_names)


def list_names(options: argparse.Namespace) -> int:
    """Names and one line each."""
    for kind in [options.kind] if options.kind else LISTED:
        rows = _rows(kind)
        width = max(len(name) for name, _ in rows)
        print(f"{kind}:")
        for name, summary in rows:
            print(f"  {name:<{width}}  {summary}".rstrip())
    return 0


def _rows(kind: str) -> list[tuple[str, str]]:
    if kind == "rescalings":
        from schedules.rescaling import RULES

        return [(name, f"{row.formula}; keeps {row.invariant}") for name, row in RULES.items()]
    if kind == "samplers":
        from experiments.search.samplers.table import SAMPLERS

        extra = {
            name: f" (extra {row.extra})" if row.extra else "" for name, row in SAMPLERS.items()
        }
        return [(name, f"{row.meaning}{extra[name]}") for name, row in SAMPLERS.items()]
    if kind == "pruners":
        from experiments.search.fidelity import PRUNERS

        return list(PRUNERS.items())
    if kind not in ("workloads", "studies"):
        table = PARTS[kind.removesuffix("s").replace("-", "_")]
        return [(name, row.summary) for name, row in table.items()]
    if kind == "workloads":
        import workloads

        found = [workloads.get(name) for name in workloads.WORKLOADS]
        return [
            (
                w.name,
                f"{w.dataset}; goal {w.goal.column} {w.goal.relation} {w.goal.value:g}",
            )
            for w in found
        ]
    from experiments import studies

    return [(name, studies.get(name).question) for name in studies.STUDIES]
