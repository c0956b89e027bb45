"""Pictures are made beside the drawing, all of them, by whoever is left to make them."""

from __future__ import annotations

import errno
import io
import signal

import numpy as np
import pytest
import vl_convert
from PIL import Image

from experiments.report import pictures

CHART = {
    "data": {"values": [{"x": 1, "y": 2}, {"x": 2, "y": 1}, {"x": 3, "y": 3}]},
    "mark": {"type": "line", "opacity": 0.5, "point": True},
    "encoding": {"x": {"field": "x", "type": "quantitative"},
                 "y": {"field": "y", "type": "quantitative"}},
}  # fmt: skip
BLENDED = 2.0
"""Mean difference, of 255, where a line that crosses itself is blended once or twice."""


def pixels(svg):
    return np.asarray(Image.open(io.BytesIO(vl_convert.svg_to_png(svg))).convert("RGB"), float)


def all_there(folder, count):
    names = {path.name for path in folder.iterdir()}
    return names == {f"{at}.{ending}" for at in range(count) for ending in pictures.ENDINGS}


def test_all_pictures_are_there_at_the_end_and_nothing_else(tmp_path):
    with pictures.side_by_side():
        for at in range(3):
            pictures.draw(CHART, tmp_path / str(at))
    assert all_there(tmp_path, 3)
    assert (tmp_path / "0.png").read_bytes() == pictures.rendered(CHART, ["png"])["png"]


def test_what_the_process_leaves_when_it_is_killed_the_caller_makes(tmp_path):
    with pictures.side_by_side():
        pictures.draw(CHART, tmp_path / "0")
        child = pictures._current.get()._child
        child.send_signal(signal.SIGKILL)
        child.wait()
        pictures.draw(CHART, tmp_path / "1")
    assert all_there(tmp_path, 2)


def test_a_picture_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "0.svg").mkdir()
    with pytest.raises(OSError) as said, pictures.side_by_side():
        pictures.draw(CHART, tmp_path / "0")
    assert said.value.errno == errno.EISDIR


def test_opacity_in_the_one_paint_is_the_same_picture():
    svg = vl_convert.vegalite_to_svg(CHART)
    moved = pictures._one_paint(svg)
    assert "stroke-opacity" in moved and moved.count(' opacity="') < svg.count(' opacity="')
    assert np.abs(pixels(moved) - pixels(svg)).mean() < BLENDED
    both = '<path fill="red" stroke="blue" opacity="0.5">'
    assert pictures._one_paint(both) == both
