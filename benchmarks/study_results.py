"""What the studies of this house came out at: numbers from their records, and the page of them.

    python -m benchmarks.study_results collect runs/momentum_digits runs/growth_digits ...
    python -m benchmarks.study_results page

``collect`` reads finished records into results/studies.json, one entry a study, beside those that
are there; ``page`` writes docs/results.md from it. No number on the page is typed: every sentence
is made of the records' own, and says where the expectation was not met.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.machine import RESULTS
from benchmarks.study_verdicts import VERDICTS
from experiments.analysis.rates_compared import medians, swept_members
from experiments.analysis.training_stability import UNSTABLE
from experiments.report.answer import steps_text

if TYPE_CHECKING:
    from experiments.analysis.summary import Summary

FILE = RESULTS / "studies.json"
PAGE = Path(__file__).parent.parent / "docs" / "results.md"


def collect(folders: Sequence[Path]) -> None:
    """Read the records into `FILE`."""
    held = json.loads(FILE.read_text()) if FILE.exists() else {}
    for folder in folders:
        found = of_folder(folder)
        held[found["name"]] = found
    FILE.write_text(json.dumps(dict(sorted(held.items())), indent=1, allow_nan=False) + "\n")


def of_folder(folder: Path) -> dict[str, Any]:
    """The numbers of one study, or of one comparison with its members."""
    from experiments.analysis.compare import read_compared
    from experiments.analysis.summary import summarise
    from experiments.records.comparisons import is_comparison
    from experiments.records.store import read

    if is_comparison(folder):
        compared = read_compared(folder)
        members = compared.members
        about = {"question": compared.question, "expected": compared.expected}
        name = compared.name
    else:
        summary = summarise(read(folder))
        name, members = summary.question.name, {"": summary}
        about = {"question": summary.question.question, "expected": summary.question.expected}
    first = next(iter(members.values()))
    goal = first.question.goal
    return {
        "name": name,
        **about,
        "goal": f"{goal.split} {goal.metric.replace('_', ' ')} {goal.relation} {goal.value:g}",
        "metric": f"{goal.split} {goal.metric.replace('_', ' ')}",
        "device": first.record.study["environment"]["device"],
        "commit": first.record.study["environment"]["commit"],
        "searches": first.searches,
        "trials": sum(len(s.record.trials) for s in members.values()),
        "trial_steps": sum(int(s.record.trials["steps"].sum()) for s in members.values()),
        "trial_seconds": sum(float(s.record.trials["seconds"].sum()) for s in members.values()),
        "members": {label: _member(summary) for label, summary in members.items()},
    }


def _member(summary: Summary) -> dict[str, Any]:
    curve = summary.curve.select(
        "batch_size", "median", "low", "high", "pooled", "censored_at", "median_examples"
    )
    levels = summary.budget_levels.select("budget", "within", "batch_size", "median", "low", "high")
    trials = summary.record.trials.group_by("batch_size").agg(length=_greatest("train_steps"))
    found = {
        "curve": curve.sort("batch_size").to_dicts(),
        "budgets": levels.to_dicts(),
        "best_batch_sizes": summary.best_batch_sizes.to_dicts(),
        "updates": {str(b): n for b, n in trials.sort("batch_size").iter_rows()},
        "limit": _estimate(summary.critical.limit),
        "noise": _estimate(summary.critical.noise),
        "noise_scale": _noise(summary),
        "rates": _rates(summary),
    }
    return _plain(found)


def _rates(summary: Summary) -> list[dict[str, Any]]:
    """A row a rate, where the study is a sweep of the rate at one batch size; else none."""
    found = swept_members({"": summary.record})
    return medians(found[""].table).to_dicts() if found else []


def _greatest(column: str) -> Any:
    import polars as pl

    return pl.col(column).max()


def _estimate(estimate: Any) -> dict[str, Any]:
    return {name: getattr(estimate, name) for name in ("value", "relation", "low", "high")}


def _noise(summary: Summary) -> list[dict[str, Any]]:
    from experiments.analysis.noise_scale import noise_at_goal, records_noise

    if not records_noise(summary.view):
        return []
    table = noise_at_goal(summary.view, summary.of_seed(summary.steps))
    return table.select("batch_size", "noise_scale", "low", "high", "reason").to_dicts()


def _plain(value: Any) -> Any:
    """JSON values; infinity as text, since JSON has none."""
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return float(f"{value:.6g}") if isinstance(value, float) else value


PREFACE = """\
# What the studies came out at

Generated by `python -m benchmarks.study_results page` from [records' own
numbers](../benchmarks/results/studies.json); no number here is typed. Every study is a file of
[experiments/studies](../experiments/studies), whose docstring says question, time and expectation.
Medians are those of the searches; in brackets their exact range, which covers the median of one
search's answer with 1 - 2^(1-R). They hold for this split of the data.
"""


SMOKE = "-smoke"
"""Ends the name of a study's smaller variant."""


def page(held: Mapping[str, Mapping[str, Any]]) -> str:
    """docs/results.md of these studies."""
    rows = ["| study | came out as expected | trials |", "|---|---|---|"]
    sections = []
    for name, found in held.items():
        verdict = VERDICTS[name.removesuffix(SMOKE)](found)
        rows.append(f"| [`{name}`](#{name}) | {verdict.outcome} | {found['trials']:,} |")
        sections.append(_section(found, verdict.outcome, verdict.sentences))
    return "\n".join([PREFACE, *rows, "", *sections])


def _section(found: Mapping[str, Any], outcome: str, sentences: Sequence[str]) -> str:
    name = found["name"]
    run = f"batchscale run {name.removesuffix(SMOKE)}{' --smoke' * name.endswith(SMOKE)}"
    minutes = max(1, round(found["trial_seconds"] / 60))
    time = f"{minutes} minute{'s' * (minutes > 1)} of trial time on {found['device']}"
    lines = [
        f"## {name}", "", found["question"], "",
        f"- Expected: {found['expected']}",
        f"- Came out as expected: {outcome}.",
        *(f"- {sentence}" for sentence in sentences),
        (f"- `{run}`: {found['trials']:,} trials, {found['trial_steps']:,} trial-steps, "
        f"{time}; goal: {found['goal']}."),
        "",
    ]  # fmt: skip
    labels = list(found["members"])
    if all(found["members"][label].get("rates") for label in labels):
        return "\n".join([*lines, *_rate_rows(found, labels), ""])
    heads = ["batch size", *(label or "steps" for label in labels)]
    lines += [_row(heads), _row(["---"] * len(heads))]
    sizes = [row["batch_size"] for row in found["members"][labels[0]]["curve"]]
    for size in sizes:
        cells = [_steps(found["members"][label], size) for label in labels]
        lines.append(_row([f"{size:,}", *cells]))
    return "\n".join([*lines, ""])


def _rate_rows(found: Mapping[str, Any], labels: Sequence[str]) -> list[str]:
    """The final value at every rate, a column a member; '*' where a seed was unstable."""
    lines = [_row(["learning rate", *(label.replace("_", " ") for label in labels)])]
    lines.append(_row(["---"] * (len(labels) + 1)))
    tables = [{row["rate"]: row for row in found["members"][label]["rates"]} for label in labels]
    for rate in sorted(set().union(*tables)):
        lines.append(_row([f"{rate:.4g}", *(_final(table.get(rate)) for table in tables)]))
    told = (
        f"Final {found['metric']}, median of the seeds; \\*: unstable in a seed, by the rule of "
        "[the playbook's page](playbook.md#stable-or-not); -: diverged in most."
    )
    return [*lines, "", told]


def _final(row: Mapping[str, Any] | None) -> str:
    """'0.021*'."""
    if row is None or row["final"] is None:
        return "-"
    return f"{row['final']:.3g}" + r"\*" * any(kind in UNSTABLE for kind in row["kinds"])


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _steps(member: Mapping[str, Any], batch_size: int) -> str:
    """'96 (80 to 140)', steps to the goal."""
    row = next(row for row in member["curve"] if row["batch_size"] == batch_size)
    if row["median"] is None:
        return "-" if row["censored_at"] is None else f"> {row['censored_at']:,}"
    ends = ""
    if row["low"] is not None:
        high = "never" if row["high"] == "inf" else f"{row['high']:,.0f}"
        ends = f" ({row['low']:,.0f} to {high})"
    return f"{steps_text(row['median'])}{ends}"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="what", required=True)
    collecting = commands.add_parser("collect", help="read records into results/studies.json")
    collecting.add_argument("folders", nargs="+", type=Path)
    commands.add_parser("page", help="write docs/results.md")
    options = parser.parse_args()
    if options.what == "collect":
        collect(options.folders)
    else:
        PAGE.write_text(page(json.loads(FILE.read_text())), encoding="utf-8")


if __name__ == "__main__":
    main()
