"""The look of every figure: colours that hold on white and on dark pages, fonts, axes."""

from __future__ import annotations

from typing import Any

BLUE, ORANGE, RED, GREEN, GREY = "#3b7dd8", "#e08a1e", "#d0473e", "#2f9e6e", "#8b919c"
FONT = "Helvetica Neue, Helvetica, Arial, Liberation Sans, DejaVu Sans, sans-serif"
_BATCH_STOPS = ("#45a5dc", "#6f5cc9", "#bd4f9f", "#e56d55", "#e3a52e")
"""Five that a reader without red, green or blue cones tells apart, on white and on dark pages."""

CROSS = "M-1,-.62L-.62,-1L0,-.38L.62,-1L1,-.62L.38,0L1,.62L.62,1L0,.38L-.62,1L-1,.62L-.38,0Z"
ARROW = "M0,-1.5L.95,-.25L.32,-.25L.32,1.2L-.32,1.2L-.32,-.25L-.95,-.25Z"
STAR = "M0,-1.5L.36,-.5L1.43,-.46L.59,.19L.88,1.21L0,.62L-.88,1.21L-.59,.19L-1.43,-.46L-.36,-.5Z"


def batch_colours(count: int) -> list[str]:
    """``count`` colours from blue (small batch sizes) to amber (large ones), evenly spaced."""
    last = len(_BATCH_STOPS) - 1
    places = [i * last / max(count - 1, 1) for i in range(count)]
    return [_between(place) for place in places]


def _between(place: float) -> str:
    at = min(int(place), len(_BATCH_STOPS) - 2)
    ends = [[int(stop[i : i + 2], 16) for i in (1, 3, 5)] for stop in _BATCH_STOPS[at : at + 2]]
    mixed = [round(a + (place - at) * (b - a)) for a, b in zip(*ends, strict=True)]
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def theme(dark: bool = False) -> dict[str, Any]:
    """The Vega-Lite ``config`` of the light or the dark page."""
    text, faint, grid = ("#d7dbe2", "#9aa2b0", "#2f3640") if dark else (
        "#1f2530", "#5c6573", "#e7e9ed"
    )  # fmt: skip
    return {
        "background": None,
        "font": FONT,
        "view": {"stroke": grid},
        "axis": {
            "labelColor": faint, "titleColor": text, "gridColor": grid, "domainColor": faint,
            "tickColor": faint, "titleFontWeight": 500, "labelFontSize": 11,
            "titleFontSize": 12, "titlePadding": 8, "labelOverlap": "greedy",
        },
        "legend": {
            "labelColor": text, "titleColor": text, "titleFontWeight": 500,
            "labelFontSize": 11, "titleFontSize": 12, "labelLimit": 260,
        },
        "header": {"labelColor": text, "titleColor": text, "labelFontSize": 11},
        "title": {
            "color": text, "subtitleColor": faint, "fontSize": 13, "fontWeight": 600,
            "subtitleFontSize": 11, "anchor": "start", "offset": 10,
        },
        "text": {"color": faint, "fontSize": 11},
        "rule": {"color": faint},
    }  # fmt: skip
