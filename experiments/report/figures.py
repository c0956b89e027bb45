"""All figures of a study, in the order of the page; each a function of its summary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from experiments.analysis.summary import Summary
from experiments.report import (
    border_figures,
    cost_figures,
    curve_figures,
    hyperparameter_figures,
    parallel_figure,
    rule_figures,
    scaling_figures,
    search_figures,
    style,
)
from experiments.report.curvature_figures import curvature_figures
from experiments.report.figure import Figure, unchecked
from experiments.report.importance_figure import importance
from experiments.report.noise_figures import noise_figures
from experiments.report.pictures import rendered
from experiments.report.repeat_figures import repeat_figures
from experiments.report.rounds_figures import rounds_figures

FIGURES: tuple[Callable[[Summary], Figure], ...] = (
    scaling_figures.steps_to_result,
    border_figures.definitions,
    scaling_figures.budgets,
    cost_figures.budget_levels,
    cost_figures.cost,
    cost_figures.speed,
    hyperparameter_figures.best_hyperparameters,
    rule_figures.rules,
    rule_figures.rule_map,
    search_figures.search_scatter,
    curve_figures.validation_curves,
    search_figures.axis_plots,
    importance,
    parallel_figure.parallel,
    curve_figures.best_of_trials,
)


def drawn(summary: Summary) -> list[Figure]:
    """Every figure of a study: `FIGURES`, and what was trained again or recorded besides."""
    return list(drawn_in_turn(summary))


def drawn_in_turn(summary: Summary) -> Iterator[Figure]:
    """`drawn`, one figure after another."""
    first, *others = (_alone(draw) for draw in FIGURES)
    for draw in (first, repeat_figures, *others, rounds_figures, noise_figures, curvature_figures):
        with unchecked():
            found = draw(summary)
        yield from found


def _alone(draw: Callable[[Summary], Figure]) -> Callable[[Summary], list[Figure]]:
    return lambda summary: [draw(summary)]


def render(figure: Figure) -> dict[str, bytes]:
    """The figure as ``{"png": ..., "svg": ..., "pdf": ...}``, light theme, title included."""
    return rendered(printed(figure))


def printed(figure: Figure) -> dict[str, Any]:
    """The figure as Vega-Lite for a picture: light theme, title included."""
    return {
        **figure.specification(),
        "config": {**style.theme(), "background": "white"},
        "title": {"text": figure.title, "fontSize": 15, "offset": 14},
        "padding": 14,
    }


def as_svg(figure: Figure) -> str:
    """The figure as an SVG document, light theme, title included."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg(printed(figure)))
