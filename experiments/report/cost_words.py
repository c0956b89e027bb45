"""Time and cost to the goal in words and as a table, for the page and the terminal."""

from __future__ import annotations

from experiments.analysis.cost import CostToGoal
from experiments.analysis.summary import Summary
from experiments.report.answer import size_range, steps_text
from experiments.report.tables import Table


def cost_unit(found: CostToGoal) -> str:
    """'in the unit of the price' or 'in hours of a device'."""
    return "in the unit of the price" if found.priced else "in hours of a device"


def cost_table(summary: Summary) -> Table:
    """Seconds a step, time and cost to the goal, a row a batch size; the least are marked."""
    found = summary.cost
    least = {each.quantity: each.batch_size for each in found.least}
    columns = ("batch size", "devices", "ms a step", "examples a second", "steps to result",
               "seconds to the goal", f"cost, {cost_unit(found).removeprefix('in ')}")  # fmt: skip
    rows = []
    for row in found.table.iter_rows(named=True):
        cells = [
            f"{row['batch_size']:,}",
            f"{row['devices']}",
            f"{1e3 * row['seconds_per_step']:.3g}",
            f"{row['examples_per_second']:,.0f}",
        ]
        cells.append("-" if row["median"] is None else steps_text(row["median"]))
        for name in ("time", "cost"):
            value = row[f"{name}_median"]
            mark = " *" if row["batch_size"] == least[name] else ""
            cells.append("-" if value is None else f"{value:.3g}{mark}")
        rows.append(tuple(cells))
    return Table("cost", "Time and cost to the goal", columns, tuple(rows), (True,) * len(columns))


def best_sizes_table(summary: Summary) -> Table:
    """The best batch size at every budget, with its range over the searches that answer it."""
    columns = ("budget", "within", "best batch size", "range of searches")
    units, rows = {"step": "steps", "epoch": "examples"}, []
    for row in summary.best_batch_sizes.iter_rows(named=True):
        size, known = row["batch_size"], row["low"] is not None
        rows.append(
            (
                f"{row['budget']} budget",
                f"{row['within']:,} {units[row['budget']]}",
                "-" if size is None else f"{size:,}",
                size_range(row["low"], row["high"]) if known else "one search, no range",
            )
        )
    numeric = (False, True, True, True)
    return Table("best_sizes", "Best batch size at each budget", columns, tuple(rows), numeric)


def least_words(summary: Summary) -> list[str]:
    """One line a quantity: the batch size that makes it least, with its range."""
    found, lines = summary.cost, []
    units = {"time": "s", "cost": "by the price given" if found.priced else "hours of a device"}
    for least in found.least:
        if least.batch_size is None or least.value is None:
            continue
        line = f"Least {least.quantity} to the goal at batch size {least.batch_size:,}"
        if least.low is not None and least.high is not None:
            ends = size_range(least.low, least.high)
            line += f" (range of {least.searches} searches {ends})"
        lines.append(f"{line}: {least.value:.3g} {units[least.quantity]}")
    return lines
