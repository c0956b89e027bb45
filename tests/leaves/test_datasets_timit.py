"""TIMIT's frames from a user's own files: splits, shapes, one line for what is wrong."""

import numpy as np
import pytest

from workloads.datasets import DATASETS, DataError, load, timit


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Twenty frames to train on and ten to test on, in place of the paper's million."""
    monkeypatch.setattr(timit, "FRAMES", {"train": 20, "test": 10})
    monkeypatch.setattr(timit, "SIZES", {"train": 18})
    random = np.random.default_rng(0)
    for split, size in timit.FRAMES.items():
        np.save(tmp_path / f"{split}_inputs.npy", random.normal(size=(size, 360)))
        np.save(tmp_path / f"{split}_targets.npy", random.integers(0, 1973, size))
    return tmp_path


def test_the_frames_are_those_of_the_files_and_the_last_tenth_validates(folder):
    found = load("timit", str(folder))
    written = np.load(folder / "train_inputs.npy").astype(np.float32)
    assert {s: found.size(s) for s in found.splits} == {"train": 18, "validation": 2, "test": 10}
    np.testing.assert_array_equal(found.splits["train"]["inputs"], written[:18])
    np.testing.assert_array_equal(found.splits["validation"]["inputs"], written[18:])
    assert found.splits["train"]["targets"].dtype == np.int32 and found.classes == 1973


def test_the_sizes_are_the_papers():
    assert timit.FRAMES == {"train": 721_329, "test": 310_621}
    assert DATASETS["timit"].sizes == timit.SIZES
    assert timit.SIZES["train"] + timit.SIZES["validation"] == timit.FRAMES["train"]


def test_what_is_missing_or_wrong_is_one_line(folder):
    with pytest.raises(
        DataError, match="licensed by the Linguistic Data Consortium: give a folder"
    ):
        load("timit")
    np.save(folder / "test_targets.npy", np.full(10, 1973))
    with pytest.raises(DataError, match="must hold classes 0 to 1972, got 1973 to 1973"):
        load("timit", str(folder))
    np.save(folder / "train_inputs.npy", np.zeros((20, 40)))
    with pytest.raises(DataError, match=r"must be floats of shape \(20, 360\), got float64"):
        load("timit", str(folder))
    (folder / "train_inputs.npy").write_text("no array")
    with pytest.raises(DataError, match="cannot be read as an array"):
        load("timit", str(folder))
