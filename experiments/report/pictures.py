"""PNG, SVG and PDF of figures, made by a process of its own while the next figure is drawn.

The renderer holds Python's lock as long as it works, so that threads would only take turns. A
figure waits as a file, its Vega-Lite in NAME.json where the pictures are to lie; who renames it
first makes it, the process or, once all are drawn, the caller. Imports no jax.
"""

from __future__ import annotations

import contextlib
import contextvars
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

_WAITING, _TAKEN = ".json", ".taken"
_RUN = "from experiments.report.pictures import serve; serve()"
_SCALE = 2


ENDINGS = ("png", "svg", "pdf")


def rendered(specification: dict[str, Any], endings: Sequence[str] = ENDINGS) -> dict[str, bytes]:
    """A chart as ``{"png": ..., "svg": ..., "pdf": ...}``, those of ``endings``."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg(specification)
    make: dict[str, Callable[[], bytes]] = {
        "png": lambda: vl_convert.svg_to_png(_one_paint(svg), scale=_SCALE),
        "svg": svg.encode,
        "pdf": lambda: vl_convert.svg_to_pdf(svg),
    }
    return {ending: make[ending]() for ending in endings}


def _one_paint(svg: str) -> str:
    """The same picture with the opacity of a path in its one paint, be it fill or stroke.

    A path's own opacity has the renderer draw it on a layer as large as the path and blend that: a
    hundred lines across a chart take ten times as long.
    """
    return _SEEN_THROUGH.sub(_in_its_paint, svg)


_SEEN_THROUGH = re.compile(r'<path [^>]* opacity="[^>]*>')


def _in_its_paint(found: re.Match[str]) -> str:
    tag = found[0]
    filled = ' fill="' in tag and ' fill="none"' not in tag and ' fill="transparent"' not in tag
    stroked = ' stroke="' in tag and ' stroke="transparent"' not in tag
    if filled == stroked or "-opacity=" in tag:
        return tag
    return tag.replace(' opacity="', f' {"fill" if filled else "stroke"}-opacity="')


class Pictures:
    """The figures of one report; `finish` waits for all of them."""

    def __init__(self) -> None:
        self._asked: list[Path] = []
        self._child: subprocess.Popen[bytes] | None = None

    def ask(self, specification: dict[str, Any], name: Path, endings: Sequence[str]) -> None:
        """Have ``name`` written with ``endings``."""
        waiting = name.with_name(name.name + _WAITING)
        task = {"chart": specification, "endings": list(endings)}
        waiting.write_text(json.dumps(task), encoding="utf-8")
        self._asked.append(waiting)
        if self._child is None:
            path = os.pathsep.join(entry for entry in sys.path if entry)
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-c", _RUN],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is the caller's
            )
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is gone: the caller makes them
            self._child.stdin.write(f"{waiting}\n".encode())
            self._child.stdin.flush()

    def finish(self) -> None:
        """Make what the process has not begun, and wait for the rest.

        Raises:
          OSError: a picture cannot be written.
          ValueError: a chart cannot be drawn.
        """
        for waiting in reversed(self._asked):
            _make(waiting)
        if self._child is None:
            return
        out, _ = self._child.communicate()
        for line in out.splitlines():
            found = json.loads(line)
            if found["errno"] is not None:
                raise OSError(found["errno"], os.strerror(found["errno"]))
            raise ValueError(found["said"])
        for taken in (path.with_suffix(_TAKEN) for path in self._asked):
            if taken.exists():  # the process was ended in the midst of it
                os.replace(taken, taken.with_suffix(_WAITING))
                _make(taken.with_suffix(_WAITING))

    def close(self) -> None:
        """End the process, if it runs still."""
        if self._child is not None and self._child.poll() is None:
            self._child.kill()
            self._child.communicate()


_current: contextvars.ContextVar[Pictures | None] = contextvars.ContextVar("pictures", default=None)


@contextlib.contextmanager
def side_by_side() -> Iterator[None]:
    """Let `draw` hand its work to another process; all pictures are there at the end."""
    pictures = Pictures()
    before = _current.set(pictures)
    try:
        yield
        pictures.finish()
    finally:
        _current.reset(before)
        pictures.close()


def draw(specification: dict[str, Any], name: Path, endings: Sequence[str] = ENDINGS) -> None:
    """Write ``name`` with ``endings``, now or by the end of `side_by_side`."""
    pictures = _current.get()
    if pictures is not None:
        pictures.ask(specification, name, endings)
        return
    for ending, content in rendered(specification, endings).items():
        name.with_name(f"{name.name}.{ending}").write_bytes(content)


def serve() -> None:
    """Make the figures whose waiting files standard input names; say what failed on the output."""
    for line in sys.stdin:
        try:
            _make(Path(line.rstrip("\n")))
        except OSError as error:
            print(json.dumps({"errno": error.errno, "said": str(error)}), flush=True)
        except ValueError as error:
            print(json.dumps({"errno": None, "said": str(error)}), flush=True)


def _make(waiting: Path) -> None:
    """Claim a figure, draw it; nothing where another has claimed it."""
    taken = waiting.with_suffix(_TAKEN)
    try:
        os.rename(waiting, taken)
    except FileNotFoundError:
        return
    task = json.loads(taken.read_text(encoding="utf-8"))
    for ending, content in rendered(task["chart"], task["endings"]).items():
        waiting.with_suffix(f".{ending}").write_bytes(content)
    taken.unlink()
