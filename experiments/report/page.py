"""The report as one HTML file that asks nothing of any network.

The Vega libraries are embedded once, the figures as Vega-Lite specifications, the style sheet
and the script inline. A content security policy forbids every request, so that a slip here
would show as a missing chart and never as a call home. All text is escaped.
"""

from __future__ import annotations

import functools
import html
import json
from collections.abc import Callable, Sequence
from importlib import resources

from experiments.analysis.next_step import NextStep
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.answer import answer, estimated
from experiments.report.cost_words import cost_table, least_words
from experiments.report.facts import facts
from experiments.report.figure import Figure
from experiments.report.noise_figures import noise_table
from experiments.report.rule_figures import rules_table, trained_table
from experiments.report.tables import (
    Table,
    budget_table,
    definitions_table,
    hyperparameter_table,
    searches_table,
    steps_table,
)
from experiments.report.words import budget_words, goal_words

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data:"
)
_AFTER: dict[str, Callable[[Summary], Table]] = {
    "noise_scale": noise_table,
    "steps_to_result": steps_table,
    "budgets": budget_table,
    "cost": cost_table,
    "best_hyperparameters": hyperparameter_table,
    "rules": rules_table,
}
_CRITICAL = (
    (
        "End of perfect scaling",
        "limit",
        (
            "the largest batch size that needs at most 20% more examples than perfect scaling "
            "(Shallue et al. 2019), on the curve fitted to all batch sizes"
        ),
    ),
    (
        "The same by a convex curve",
        "convex",
        "on the best curve of any convex form; far from the above, the hyperbola does not fit",
    ),
    (
        "The same, anchored at the smallest batch size",
        "anchored",
        "against the line through the smallest batch size alone",
    ),
    (
        "Noise critical batch size",
        "noise",
        (
            "where both steps and examples are twice their least, on the same fitted curve "
            "(McCandlish et al. 2018); the two differ five to ten times by definition"
        ),
    ),
    (
        "Start of maximal data parallelism",
        "flat",
        "from there on doubling the batch saves less than 10% of the steps",
    ),
    (
        "Fewest examples",
        "cheapest",
        "of the batch sizes measured, the one that costs least in examples",
    ),
)


def page(summary: Summary, figures: Sequence[Figure]) -> str:
    """The whole document of a study."""
    sections = [_section(summary, figure) for figure in figures]
    body = [_header(summary), *sections[:1], _verdict(summary), *sections[1:], _facts(summary)]
    title = f"{summary.question.name}: a batch-size study"
    return document(title, "\n".join([*body, _footer()]), figures)


def document(title: str, body: str, figures: Sequence[Figure]) -> str:
    """A page around ``body`` (HTML), which holds a `figure_section` for each of ``figures``."""
    embedded = {
        "figures": {figure.name: figure.specification() for figure in figures},
        "themes": {"light": style.theme(), "dark": style.theme(dark=True)},
    }
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{_asset("page.css")}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="figures">{_json(embedded)}</script>
<script>{_libraries()}</script>
<script>{_asset("page.js")}</script>
</body>
</html>
"""


@functools.cache
def _libraries() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace(
        "</script", "<\\/script"
    )


def _asset(name: str) -> str:
    return resources.files("experiments.report").joinpath(name).read_text(encoding="utf-8")


def _json(data: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _header(summary: Summary) -> str:
    question = summary.question
    expected = (
        f'<p class="note">Expected: {html.escape(question.expected)}</p>'
        if question.expected
        else ""
    )
    asked = "; ".join(
        (goal_words(question), budget_words(question, "step"), budget_words(question, "epoch"))
    )
    about = f"{question.workload.name}, {question.optimizer}. Goal: {asked}."
    return (
        f'<p class="name">{html.escape(question.name)}</p>\n'
        f"<h1>{html.escape(question.question)}</h1>\n"
        f'<p class="answer">{html.escape(answer(summary))}</p>\n{expected}'
        f'<p class="note">{html.escape(about)}</p>'
    )


def _facts(summary: Summary) -> str:
    """A folded table of what was trained, how, where and from what."""
    shown = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in facts(summary)
    )
    return "<h2>Study and machine</h2>" + _folded("All facts", f'<dl class="facts">{shown}</dl>')


def _verdict(summary: Summary) -> str:
    verdict = summary.verdict
    items = "".join(f"<li>{html.escape(found.sentence)}</li>" for found in verdict.findings)
    parts = ["<h2>What to make of it</h2>"]
    parts.append(
        f'<ul class="findings">{items}</ul>' if items else "<p>No check speaks against it.</p>"
    )
    step = verdict.next
    command = f"<p>Next: <code>{html.escape(step.command)}</code></p>" if step.command else ""
    parts.append(
        f'<div class="next">{command}'
        f'<p class="note">{html.escape(step.reason)}{_study_file(step)}</div>'
    )
    return "\n".join(parts)


def _study_file(step: NextStep) -> str:
    """The rest of the reason's paragraph: the file the command runs, where it runs a new one."""
    if step.file_name is None or step.file_text is None:
        return "</p>"
    name, text = html.escape(step.file_name), html.escape(step.file_text)
    return f" It runs this file, <code>{name}</code>:</p><pre>{text}</pre>"


def _section(summary: Summary, figure: Figure) -> str:
    parts = []
    if figure.name == "steps_to_result":
        parts.append(_critical(summary))
    if figure.name == "cost":
        parts += [f"<p>{html.escape(line)}.</p>" for line in least_words(summary)]
    if figure.name in _AFTER:
        parts.append(table_html(_AFTER[figure.name](summary)))
    if figure.name == "steps_to_result":
        parts.append(_folded("Every search on its own", table_html(searches_table(summary))))
    if figure.name == "rules" and summary.ruled:
        parts.append(table_html(trained_table(summary)))
    if figure.name == "definitions" and summary.critical.searches:
        parts.append(_folded("As a table", table_html(definitions_table(summary))))
    return figure_section(figure, *parts)


def figure_section(figure: Figure, *after: str, files: bool = True) -> str:
    """Title, caption, place and, where there are, files of a figure, then ``after`` (HTML)."""
    name = html.escape(figure.name, quote=True)
    parts = [
        f'<h2 id="{name}">{html.escape(figure.title)}</h2>',
        f'<p class="caption">{html.escape(figure.caption)}</p>',
        f'<div class="wide"><div class="chart" id="chart-{name}"></div></div>',
    ]
    if files:
        parts.append(
            f'<p class="files"><a href="figures/{name}.png">PNG</a>'
            f'<a href="figures/{name}.pdf">PDF</a><a href="data/{name}.csv">CSV</a></p>'
        )
    parts += after
    return f"<section>{chr(10).join(parts)}</section>"


def _critical(summary: Summary) -> str:
    """The batch sizes where scaling changes, with the definitions."""
    rows = []
    for name, field, meaning in _CRITICAL:
        estimate = getattr(summary.critical, field)
        noted = f" {estimate.note[:1].upper() + estimate.note[1:]}." if estimate.note else ""
        rows.append(
            f"<p>{html.escape(name)}: <strong>{html.escape(estimated(estimate))}</strong>"
            f'<br><span class="note">{html.escape(meaning)}.{html.escape(noted)}</span></p>'
        )
    return "".join(rows)


def _folded(title: str, inside: str) -> str:
    return f"<details><summary>{html.escape(title)}</summary>{inside}</details>"


def table_html(table: Table) -> str:
    """A table of text cells."""
    kinds = [' class="n"' if numeric else "" for numeric in table.numeric]
    head = "".join(
        f"<th{kind}>{html.escape(name)}</th>"
        for kind, name in zip(kinds, table.columns, strict=True)
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{k}>{html.escape(cell)}</td>" for k, cell in zip(kinds, row, strict=True))
        + "</tr>"
        for row in table.rows
    )
    return (
        f'<div class="wide"><table id="table-{table.name}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _footer() -> str:
    return """<h2>Definitions</h2>
<details><summary>How these numbers are defined</summary>
<p class="note"><b>Steps to result</b>: the fewest steps at which any of the first N COMPLETE
trials is strictly past the goal; a trial that diverged at any point does not count. It is known
only to the evaluation grid: the truth lies between the evaluation before and the one shown.</p>
<p class="note"><b>Range</b> of R searches that learn nothing from one another: the least and the
greatest of their answers. It covers the median answer of such a search with 1 - 2<sup>1-R</sup>
(96.9% for six), whatever the distribution; a search that never got there counts as infinite. It
speaks of one number, not of a whole curve. <b>Pooled</b>: the best of all trials of all searches,
which has no interval.</p>
<p class="note"><b>Limit</b> of one search: another search like it is at or below it with 95%;
exact for independent trials, checked by simulation for quasi-random ones, none for samplers that
adapt. One search cannot say how much earlier another might be.</p>
<p class="note">Ranges and limits are conditional on the split of the data and on the plan.</p>
<p class="note"><b>Regimes</b>, on the curve S = S<sub>min</sub> (1 + B<sub>noise</sub> / B)
fitted to all batch sizes: perfect scaling, at most 20% more examples than its perfect-scaling line;
maximal data parallelism, doubling saves less than 10% of the steps; diminishing returns
between.</p>
<p class="note"><b>Budgets</b>: the best value at any evaluation of any trial within that many
steps, or within that many examples.</p></details>"""
