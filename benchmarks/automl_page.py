"""The tables of docs/automl.md that are made of results: no number of them is typed.

    python -m benchmarks.automl_page

Writes what stands between ``<!-- defaults -->`` and ``<!-- end -->`` on the page anew from what
benchmarks/automl.py left.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from benchmarks.machine import RESULTS

PAGE = Path(__file__).parent.parent / "docs" / "automl.md"
OTHERS = ("LogisticRegression", "MLPClassifier")
HEAD = ("data", "budget", "seeds", "test examples", "`automl`", *(f"minus {o}" for o in OTHERS))
KINDS = {
    "trials": "Budgets in trials, the same under any load:",
    "seconds": "Budgets in time, on quiet cores:",
}
"""Sections of the results -> what stands above their tables."""
Data = dict[str, dict[str, Any]]


def signed(value: float) -> str:
    """Percentage points with a sign, 0 without."""
    return "0" if abs(value) < 0.05 else f"{value:+.1f}"


def _difference(row: dict[str, Any], other: str) -> str:
    found = row["against"][other]["error_points"]
    text = signed(found["median"])
    if found["interval"] is None:
        return text
    low, high = found["interval"]
    return f"{text} ({signed(low)} to {signed(high)})"


def _kind(row: dict[str, Any], other: str) -> str:
    interval = row["against"][other]["error_points"]["interval"]
    if interval is None:
        return "too few seeds for a range on"
    low, high = interval
    return "better on" if high < 0 else "worse on" if low > 0 else "the range holds zero on"


def verdicts(data: Data) -> str:
    """A sentence for each baseline: where `automl` is better, worse, and where nothing shows."""
    said = []
    for other in OTHERS:
        found: dict[str, list[str]] = {}
        for name, row in data.items():
            found.setdefault(_kind(row, other), []).append(name)
        words = [f"{kind} {', '.join(names)}" for kind, names in sorted(found.items())]
        said.append(f"- Against {other}: {'; '.join(words)}.")
    return "\n".join(said)


def coverages(data: Data) -> str:
    """What the ranges cover, by their number of seeds."""
    found = {row["seeds"]: row["against"][OTHERS[0]]["error_points"]["coverage"]
             for row in data.values()}  # fmt: skip
    return ", ".join(
        f"{coverage:.2%} of {seeds}" for seeds, coverage in sorted(found.items()) if coverage
    )


def table(data: Data, spent: bool) -> str:
    """A row a data set, then what they say; with the seconds that were ``spent`` at most."""
    rows = [
        (name, row["budget"], str(row["seeds"]), f"{row['test_examples']:,}",
         f"{row['median_error']['automl']:.1%}", *(_difference(row, other) for other in OTHERS),
         *([f"{row['most_seconds']:.1f}"] if spent else []))
        for name, row in data.items()
    ]  # fmt: skip
    head = (*HEAD, *(["most seconds"] if spent else []))
    lines = [head, ("---",) * len(head), *rows]
    made = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    covered = coverages(data)
    said = f"A range covers the median with {covered} seeds.\n\n" if covered else ""
    return f"{made}\n\n{said}{verdicts(data)}"


def tables(results: dict[str, Any]) -> str:
    """A table a kind of budget."""
    made = [f"{words}\n\n{table(results[kind]['data'], kind == 'seconds')}"
            for kind, words in KINDS.items() if kind in results]  # fmt: skip
    return "\n\n".join(made)


def page(text: str) -> str:
    """The page with its tables made anew."""
    made = tables(json.loads((RESULTS / "automl.json").read_text()))
    between = re.compile(r"(<!-- defaults -->\n).*?(<!-- end -->)", re.DOTALL)
    text, count = between.subn(lambda found: found[1] + made + "\n" + found[2], text)
    assert count == 1, "the page has no place for the tables"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
