"""The page of a study: answer, figures with their tables, verdict, trials, facts, definitions."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from experiments.analysis.checks import checks_of
from experiments.analysis.next_step import NextStep
from experiments.analysis.summary import Summary
from experiments.report.answer import answer, estimated, hyperbola_words
from experiments.report.cost_words import best_sizes_table, cost_table, least_words
from experiments.report.curvature_figures import curvature_table
from experiments.report.document import document, figure_section, folded, noted, table_html
from experiments.report.facts import facts
from experiments.report.figure import Figure
from experiments.report.longer_search import NOTE as LONGER_SEARCH_NOTE
from experiments.report.longer_search import longer_search_table
from experiments.report.methods import FITTED_CURVE
from experiments.report.noise_figures import noise_table
from experiments.report.pictures import ENDINGS
from experiments.report.repeats import repeat_table
from experiments.report.rule_figures import rules_table, trained_table
from experiments.report.tables import (
    Table,
    budget_table,
    definitions_table,
    hyperparameter_table,
    searches_table,
    steps_table,
)
from experiments.report.trials import page_data, trials_table
from experiments.report.words import budget_words, goal_words

_AFTER: dict[str, Callable[[Summary], Table]] = {
    "noise_scale": noise_table,
    "curvature_in_training": curvature_table,
    "repeats": repeat_table,
    "steps_to_result": steps_table,
    "budgets": budget_table,
    "budget_levels": best_sizes_table,
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
            "(Shallue et al. 2019), on the curve fitted to all batch sizes, its sharpness too"
        ),
    ),
    (
        "The same, were the curve a hyperbola",
        "hyperbola",
        "narrower, and too low wherever the elbow is sharper than a hyperbola's",
    ),
    (
        "The same by a convex curve",
        "convex",
        "on the best curve of any convex form; far from the above, neither form fits",
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
            "where both steps and examples are twice their least, on the hyperbola "
            "(McCandlish et al. 2018)"
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


def page(
    summary: Summary,
    figures: Sequence[Figure],
    *,
    folder: str = "DIR",
    note: str = "",
    refresh: int = 0,
    pictures: Sequence[str] = ENDINGS,
) -> str:
    """The whole document of a study.

    ``folder``: of the record, in the command that trains a trial again; ``note``: a user's text,
    shown on top as it is; ``refresh``: seconds after which the page is read again, 0 for never;
    ``pictures``: formats of the figures that lie beside it.
    """
    sections = [_section(summary, figure, pictures) for figure in figures]
    body = [_header(summary, noted(note)), *sections[:1], _verdict(summary), *sections[1:],
            _trials(), _facts(summary), _footer()]  # fmt: skip
    title = f"{summary.question.name}: a batch-size study"
    trials = page_data(summary, trials_table(summary), folder)
    return document(title, "\n".join(body), figures, trials=trials, refresh=refresh)


def _header(summary: Summary, noted: str) -> str:
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
        f'{noted}<p class="name">{html.escape(question.name)}</p>\n'
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
    return "<h2>Study and machine</h2>" + folded("All facts", f'<dl class="facts">{shown}</dl>')


def _trials() -> str:
    """The place of the table, which the page's script fills."""
    return """<section id="section-trials"><h2 id="trials-title">All trials</h2>
<p class="caption">Select a row, or a point of a chart above, to see the trial in every chart; the
address of the page keeps it, Escape clears it. <a href="data/trials.csv">data/trials.csv</a> holds
all trials.</p><div id="trials"></div></section>"""


def _verdict(summary: Summary) -> str:
    verdict = summary.verdict
    items = "".join(
        f'<li><span class="severity {check.severity}">{check.severity}</span> '
        f"{html.escape(check.sentence)}</li>"
        for check in checks_of(summary.question, verdict)
    )
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


def _section(summary: Summary, figure: Figure, pictures: Sequence[str]) -> str:
    parts = []
    if figure.name == "steps_to_result":
        parts.append(_critical(summary))
    if figure.name == "cost":
        parts += [f"<p>{html.escape(line)}.</p>" for line in least_words(summary)]
    if figure.name in _AFTER:
        parts.append(table_html(_AFTER[figure.name](summary)))
    if figure.name == "steps_to_result":
        parts.append(folded("Every search on its own", table_html(searches_table(summary))))
    if figure.name == "rules" and summary.ruled:
        parts.append(table_html(trained_table(summary)))
    if figure.name == "best_of_trials" and len(summary.longer_searches):
        parts.append(table_html(longer_search_table(summary)))
        parts.append(f'<p class="note">{html.escape(LONGER_SEARCH_NOTE)}</p>')
    if figure.name == "definitions" and summary.critical.searches:
        parts.append(folded("As a table", table_html(definitions_table(summary))))
    fitted = FITTED_CURVE if figure.name == "steps_to_result" else ""
    return figure_section(figure, *parts, pictures=pictures, further_method=fitted)


def _critical(summary: Summary) -> str:
    """The batch sizes where scaling changes, with the definitions."""
    rows = []
    for name, field, meaning in _CRITICAL:
        estimate = getattr(summary.critical, field)
        noted = f" {estimate.note[:1].upper() + estimate.note[1:]}." if estimate.note else ""
        if field in ("hyperbola", "noise"):
            noted += hyperbola_words(summary)
        rows.append(
            f"<p>{html.escape(name)}: <strong>{html.escape(estimated(estimate))}</strong>"
            f'<br><span class="note">{html.escape(meaning)}.{html.escape(noted)}</span></p>'
        )
    return "".join(rows)


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
<p class="note"><b>Regimes</b>, on the curve
S = S<sub>min</sub> (1 + (B<sub>noise</sub> / B)<sup>p</sup>)<sup>1/p</sup> fitted to all batch
sizes: perfect scaling, at most 20% more examples than its perfect-scaling line; maximal data
parallelism, doubling saves less than 10% of the steps; diminishing returns
between.</p>
<p class="note"><b>Budgets</b>: the best value at any evaluation of any trial within that many
steps, or within that many examples.</p></details>"""
