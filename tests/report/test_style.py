"""Colours of batch sizes: told apart by readers without one kind of cones, and visible."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from experiments.report.style import batch_colours

SEEN = {
    "all cones": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
               [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                 [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
"""Linear sRGB as it is seen, at full severity (Machado, Oliveira and Fernandes 2009, table 1)."""

XYZ = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
WHITE = [0.95047, 1.0, 1.08883]
APART = 20.0  # a difference of 2.3 is just noticed


def linear(colour):
    """Linear sRGB of '#rrggbb'."""
    value = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """CIE L*a*b* (1976) of linear sRGB."""
    x, y, z = np.array(XYZ) @ np.clip(rgb, 0, 1) / WHITE
    x, y, z = (t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x, y, z))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("seen", SEEN.values(), ids=SEEN)
def test_five_batch_sizes_are_told_apart(seen):
    found = [lab(np.array(seen) @ linear(colour)) for colour in batch_colours(5)]
    for one, other in itertools.combinations(found, 2):
        assert np.linalg.norm(one - other) > APART


def test_every_colour_is_seen_on_white_and_on_dark_pages():
    for colour in batch_colours(11):
        assert 40 < lab(linear(colour))[0] < 75
