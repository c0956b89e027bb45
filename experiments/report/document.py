"""A page as one HTML file that asks nothing of any network.

The Vega libraries are embedded once, the figures as Vega-Lite specifications, the style sheet
and the script inline. A content security policy forbids every request, so that a slip here
would show as a missing chart and never as a call home. All text is escaped.
"""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any

from experiments.report import style
from experiments.report.figure import Figure
from experiments.report.libraries import libraries
from experiments.report.methods import METHODS
from experiments.report.pictures import ENDINGS
from experiments.report.tables import Table

_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'unsafe-inline'; img-src data:"
)


def noted(note: str) -> str:
    """A user's text, shown as it is; "" where there is none."""
    return f'<div class="user-note">{html.escape(note)}</div>' if note.strip() else ""


def document(
    title: str,
    body: str,
    figures: Sequence[Figure],
    *,
    trials: dict[str, Any] | None = None,
    refresh: int = 0,
) -> str:
    """A page around ``body`` (HTML), which holds a `figure_section` for each of ``figures``.

    ``trials``: what its table of trials shows, `page_data`.
    """
    embedded = {
        "figures": {figure.name: figure.specification() for figure in figures},
        "themes": {"light": style.theme(), "dark": style.theme(dark=True)},
        "trials": trials,
    }
    again = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
{again}<title>{html.escape(title)}</title>
<style>{_asset("page.css")}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="figures">{_json(embedded)}</script>
<script>{libraries()}</script>
<script>{_asset("page.js")}</script>
<script>{_asset("trials.js")}</script>
</body>
</html>
"""


def _asset(name: str) -> str:
    return resources.files("experiments.report").joinpath(name).read_text(encoding="utf-8")


def _json(data: object) -> str:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def figure_section(
    figure: Figure,
    *after: str,
    files: bool = True,
    pictures: Sequence[str] = ENDINGS,
    further_method: str = "",
) -> str:
    """Title, caption, place and, where there are, files of a figure, then ``after`` (HTML)."""
    name = html.escape(figure.name, quote=True)
    parts = [
        f'<h2 id="{name}">{html.escape(figure.title)}</h2>',
        f'<p class="caption">{html.escape(figure.caption)}</p>',
        f'<div class="wide"><div class="chart" id="chart-{name}"></div></div>',
    ]
    if files:
        links = [f'<a href="figures/{name}.{end}">{end.upper()}</a>' for end in pictures]
        links.append(f'<a href="data/{name}.csv">CSV</a>')
        parts.append(f'<p class="files">{"".join(links)}</p>')
    if figure.name in METHODS:
        method = f"{METHODS[figure.name]} {further_method}".strip()
        computed = f'<p class="note">{html.escape(method)}</p>'
        parts.append(f'<div class="method">{folded("How is this computed?", computed)}</div>')
    parts += after
    return f"<section>{chr(10).join(parts)}</section>"


def folded(title: str, inside: str) -> str:
    """HTML that is shown once its title is clicked."""
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
