"""One figure in one file, whose ending chooses the format."""

from __future__ import annotations

from pathlib import Path

from experiments.report.figure import Figure

ENDINGS = (".png", ".svg", ".pdf", ".html")


def check_ending(out: Path) -> None:
    """ValueError where the ending of ``out`` is no format that a figure can be written in."""
    if out.suffix not in ENDINGS:
        raise ValueError(f"out must end in {', '.join(ENDINGS)}, got {str(out)!r}")


def write_figure(figure: Figure, out: Path) -> None:
    """Writes ``figure`` to ``out``, title included; an .html page works without a network.

    Raises:
      ValueError: an ending that is not one of `ENDINGS`.
      OSError: the file cannot be written.
    """
    check_ending(out)
    from experiments.report.figures import as_svg, render

    if out.suffix == ".html":
        from experiments.report.document import document, figure_section

        body = figure_section(figure, files=False)
        out.write_text(document(figure.title, body, [figure]), encoding="utf-8")
    elif out.suffix == ".svg":
        out.write_text(as_svg(figure), encoding="utf-8")
    else:
        out.write_bytes(render(figure)[out.suffix[1:]])
