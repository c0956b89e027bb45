"""The report as one HTML file that asks nothing of any network.

The Vega libraries are embedded once, the figures as Vega-Lite specifications, the style sheet
and the script inline. A content security policy forbids every request, so that a slip here
would show as a missing chart and never as a call home. All text is escaped.
"""

from __future__ import annotations

import functools
import html
import json
from collections.abc import Sequence
from importlib import resources

from experiments.analysis.next_step import NextStep
from experiments.analysis.summary import Summary
from experiments.report import style
from experiments.report.answer import answer, estimated
from experiments.report.facts import facts
from experiments.report.figure import Figure
from experiments.report.tables import Table, budget_table, hyperparameter_table, steps_table

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data:"
)
_AFTER = {
    "steps_to_result": steps_table,
    "budgets": budget_table,
    "best_hyperparameters": hyperparameter_table,
}
_CRITICAL = (
    (
        "End of perfect scaling",
        (
            "the largest batch size that needs at most 20% more examples than perfect scaling from "
            "the smallest (Shallue et al. 2019)"
        ),
    ),
    (
        "Noise critical batch size",
        (
            "where both steps and examples are twice their least, from the hyperbola fitted to all "
            "points (McCandlish et al. 2018); the two differ five to ten times by definition"
        ),
    ),
)


def page(summary: Summary, figures: Sequence[Figure]) -> str:
    """The whole document of a study."""
    body = [_header(summary), _verdict(summary), *(_section(summary, f) for f in figures)]
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
    shown = "".join(
        f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd></div>"
        for name, value in facts(summary)
    )
    expected = (
        f'<p class="note">Expected: {html.escape(question.expected)}</p>'
        if question.expected
        else ""
    )
    return (
        f'<p class="name">{html.escape(question.name)}</p>\n'
        f"<h1>{html.escape(question.question)}</h1>\n"
        f'<p class="answer">{html.escape(answer(summary))}</p>\n{expected}'
        f'<dl class="facts">{shown}</dl>'
    )


def _verdict(summary: Summary) -> str:
    verdict = summary.verdict
    items = "".join(f"<li>{html.escape(found.sentence)}</li>" for found in verdict.findings)
    parts = ["<h2>What to make of it</h2>"]
    parts.append(
        f'<ul class="findings">{items}</ul>' if items else "<p>No check speaks against it.</p>"
    )
    step = verdict.next
    parts.append(
        f'<div class="next"><p>Next: <code>{html.escape(step.command)}</code></p>'
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
    if figure.name in _AFTER:
        parts.append(table_html(_AFTER[figure.name](summary)))
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
    """Both critical batch sizes with their definitions, one row a seed."""
    rows = []
    for seed, estimates in summary.critical.items():
        of = f" (seed {seed})" if len(summary.critical) > 1 else ""
        for (name, meaning), estimate in zip(_CRITICAL, estimates, strict=True):
            rows.append(
                f"<p>{html.escape(name + of)}: <strong>{html.escape(estimated(estimate))}</strong>"
                f'<br><span class="note">{html.escape(meaning)}. '
                f"{html.escape(estimate.note[:1].upper() + estimate.note[1:])}.</span></p>"
            )
    return "".join(rows)


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
<p class="note"><b>Bootstrap interval</b>: 95% of the results of resampled searches. It never goes
below the observed value and says how much later the search might have got there without its
luckiest trials, not how much better a longer search could do.</p>
<p class="note"><b>Regimes</b>: perfect scaling, at most 20% more examples than the perfect-scaling
line from the smallest batch size; maximal data parallelism, doubling saves less than 10% of the
steps; diminishing returns between.</p>
<p class="note"><b>Budgets</b>: the best value at any evaluation of any trial within that many
steps, or within that many examples.</p></details>"""
