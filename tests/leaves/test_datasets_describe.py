"""What `batchscale data NAME` says of a dataset, against the arrays themselves."""

import json

import numpy as np
import pytest
from support.tolerances import FLOAT32_SUMS

from workloads import datasets
from workloads.datasets.describe import describe, draw, lines, mean_image


def test_digits_in_numbers():
    digits, description = datasets.load("digits"), describe("digits")
    assert json.loads(json.dumps(description)) == description
    assert description["checksum"] == digits.checksum
    train = description["splits"]["train"]
    assert train["examples"] == 1024 and sum(train["label_counts"]) == 1024
    assert train["inputs"] == {"shape": [64], "dtype": "float32", "low": 0.0, "high": 1.0}
    expected = digits.splits["train"]["inputs"].mean(axis=0).reshape(8, 8, 1)
    np.testing.assert_allclose(description["mean_image"], expected, rtol=FLOAT32_SUMS)


def test_mean_of_byte_images_does_not_overflow():
    inputs = np.full((3000, 2, 3, 1), 250, np.uint8)
    assert np.array_equal(mean_image(inputs), np.full((2, 3, 1), 250.0))


@pytest.mark.parametrize("name", ["noisy_quadratic", "synthetic_tokens"])
def test_what_is_no_image_has_no_mean_image(name):
    assert describe(name)["mean_image"] is None


def test_terminal_lines_name_what_matters():
    description = describe("digits")
    shown = "\n".join(lines(description))
    for part in (description["checksum"], "1,024 examples of 64 float32", "scikit-learn"):
        assert part in shown
    counts = description["splits"]["test"]["label_counts"]
    assert "per class: " + " ".join(map(str, counts)) in shown


def test_drawing_spans_the_shades_and_thins_large_images():
    ramp = np.linspace(0, 1, 112).reshape(1, 112, 1) * np.ones((8, 1, 3))
    drawn = draw(ramp)
    assert len(drawn) == 2 and len(drawn[0]) == 56
    assert drawn[0][0] == " " and drawn[0][-1] == "@"
    assert draw(np.zeros((4, 4, 1))) == ["", ""]


def test_every_dataset_states_a_licence():
    assert all(spec.licence and spec.summary for spec in datasets.DATASETS.values())
