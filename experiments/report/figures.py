"""All figures of a study, in the order of the page; each a function of its summary."""

from __future__ import annotations

from collections.abc import Callable
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
from experiments.report.figure import Figure
from experiments.report.importance_figure import importance
from experiments.report.noise_figures import noise_figures
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
    first, *others = (draw(summary) for draw in FIGURES)
    recorded = [*noise_figures(summary), *curvature_figures(summary)]
    others += [*rounds_figures(summary), *recorded]
    return [first, *repeat_figures(summary), *others]


def render(figure: Figure) -> dict[str, bytes]:
    """The figure as ``{"png": ..., "svg": ..., "pdf": ...}``, light theme, title included."""
    import vl_convert

    svg = as_svg(figure)
    return {
        "png": vl_convert.svg_to_png(svg, scale=2),
        "svg": svg.encode(),
        "pdf": vl_convert.svg_to_pdf(svg),
    }


def as_svg(figure: Figure) -> str:
    """The figure as an SVG document, light theme, title included."""
    import vl_convert

    specification: dict[str, Any] = figure.specification()
    specification["config"] = {**style.theme(), "background": "white"}
    specification["title"] = {"text": figure.title, "fontSize": 15, "offset": 14}
    specification["padding"] = 14
    return str(vl_convert.vegalite_to_svg(specification))
