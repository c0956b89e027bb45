"""The tables of docs/samplers.md that are made of results: no number of theirs is typed.

    python -m benchmarks.samplers_page

Writes what stands between ``<!-- NAME -->`` and ``<!-- end -->`` on the page anew from the files
that benchmarks/inclusion.py, benchmarks/search_tables.py and benchmarks/pruner_tables.py leave.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.machine import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "samplers.md"
NAMES = {"sgd": "SGD", "momentum": "momentum", "nesterov": "Nesterov", "adam": "Adam",
         "nadam": "NAdam"}  # fmt: skip


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _read(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return found


def inclusion(found: dict[str, Any]) -> str:
    """Ratios of general rules to their special cases, a row a pair."""
    sizes = sorted({row["batch_size"] for row in found["rows"]})
    pairs = list(dict.fromkeys((row["general"], row["special"]) for row in found["rows"]))
    at = {(row["general"], row["special"], row["batch_size"]): row for row in found["rows"]}

    def cell(row: dict[str, Any]) -> str:
        mark = "" if row["met"] else " \\*"
        return f"{row['ratio']:.2f} ({row['low']:.2f} to {row['high']:.2f}){mark}"

    rows = [
        [f"{NAMES[general]} / {NAMES[special]}", *(cell(at[general, special, b]) for b in sizes)]
        for general, special in pairs
    ]
    missed = sum(not row["met"] for row in found["rows"])
    likely = [row["chance"] for row in found["rows"]]
    mark = "\\* The" if missed else "The"
    said = (
        f"{mark} upper end is above {found['bar']} in {missed} of {len(found['rows'])}. Were both "
        f"optima equal, {len(found['seeds'])} searches of this spread\nwould keep it below with a "
        f"probability of {min(likely):.2f} to {max(likely):.2f}."
    )
    return _table(["", *(f"batch size {b}" for b in sizes)], rows) + "\n\n" + said


def tables(found: dict[str, Any]) -> str:
    """Regrets on HPOBench, a row a data set, and what they say of each sampler."""
    regret = {name: found["regret"][name] for name in sorted(found["regret"])}
    samplers = list(dict.fromkeys(name for row in regret.values() for name in row))

    def cell(row: dict[str, Any], sampler: str) -> str:
        if sampler not in row:
            return ""
        own, paired = row[sampler], row[sampler]["minus_halton"]
        if sampler == "halton":
            return f"{own['mean']:.2f}"
        return f"{own['mean']:.2f} ({paired['mean']:+.2f} ± {paired['half_width_95']:.2f})"

    rows = [[name, *(cell(row, sampler) for sampler in samplers)] for name, row in regret.items()]
    head = ["data set", *(f"`{sampler}`" for sampler in samplers)]
    said = [_said(sampler, regret) for sampler in samplers if sampler != "halton"]
    return _table(head, rows) + "\n\n" + "\n".join(said)


def _said(sampler: str, regret: dict[str, Any]) -> str:
    """Count the data sets on which a sampler is better, and worse, than quasi-random points."""
    pairs = [row[sampler]["minus_halton"] for row in regret.values() if sampler in row]
    return _counted(sampler, "quasi-random points", pairs)


def _counted(name: str, other: str, pairs: Sequence[dict[str, float]]) -> str:
    better = sum(pair["mean"] + pair["half_width_95"] < 0 for pair in pairs)
    worse = sum(pair["mean"] - pair["half_width_95"] > 0 for pair in pairs)
    rest = "; the interval of the others holds zero" if better + worse < len(pairs) else ""
    return (
        f"- `{name}` beats {other} on {better} of {len(pairs)} data sets and is "
        f"worse on {worse}{rest}."
    )


def pruners(found: dict[str, Any]) -> str:
    """Regrets at equal budgets, a table a kind of resource, and what they say of each pruner."""
    parts = []
    for resource in ("epochs", "training seeds"):
        rows = found[resource]
        names = list(next(iter(rows.values())))
        body = []
        for data, row in rows.items():
            cells = [f"{row['none']['mean']:.2f}"]
            for name in names[1:]:
                paired = row[name]["minus_none"]
                cells.append(
                    f"{row[name]['mean']:.2f} ({paired['mean']:+.2f} ± "
                    f"{paired['half_width_95']:.2f})"
                )
            body.append([data, *cells])
        begun = [f"{np.mean([row[name]['trials'] for row in rows.values()]):.0f}" for name in names]
        body.append(["*trials begun*", *begun])
        head = [f"resource: {resource}", *(f"`{name}`" for name in names)]
        said = [_beats(name, rows) for name in names if name != "none"]
        parts.append(_table(head, body) + "\n\n" + "\n".join(said))
    return "\n\n".join(parts)


def _beats(name: str, rows: dict[str, Any]) -> str:
    """Count the data sets on which a pruner is better, and worse, than none."""
    return _counted(name, "no pruner", [row[name]["minus_none"] for row in rows.values()])


PARTS: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    "inclusion": (inclusion, "inclusion"),
    "inclusion held out": (inclusion, "inclusion_held_out"),
    "tables": (tables, "search_tables"),
    "pruners": (pruners, "pruner_tables"),
}
"""Name on the page -> how it is made, and of which results."""


def page(text: str) -> str:
    """The page with its tables made anew."""
    for name, (make, results) in PARTS.items():
        between = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        made = make(_read(results))
        text, count = between.subn(lambda found, made=made: found[1] + made + "\n" + found[2], text)  # type: ignore[misc]
        assert count == 1, f"the page has no place for {name}"
    return text


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
