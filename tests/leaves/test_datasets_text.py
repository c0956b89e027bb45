"""Local text: tokens, windows, splits; a file, a folder, the Bible; faults in one line."""

import numpy as np
import pytest

from workloads import datasets
from workloads.datasets.base import DataError
from workloads.datasets.text import ALPHABET, CLASSES, load, tokenise, windows

KJV_CHECKSUM = "85de10d1d066af5f1f8cdd9054a92fabe949c30536b4e5d1c68c5db09a8c24dc"
TEXT = "In the beginning was the Word.\n" * 40


def refused(**options):
    with pytest.raises(DataError) as caught:
        load(**options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_characters_have_fixed_tokens_and_others_share_zero():
    tokens = tokenise("\n ~é\t😀".encode(), "characters", "x")
    assert tokens.tolist() == [1, 2, 96, 0, 0, 0]
    assert len(ALPHABET) == 96 and CLASSES["characters"] == 97


def test_bytes_are_themselves():
    assert tokenise(b"\x00a\xff", "bytes", "x").tolist() == [0, 97, 255]


def test_targets_are_the_inputs_one_token_on():
    cut = windows(np.arange(11, dtype=np.uint8), 3)
    assert cut["inputs"].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert cut["targets"].tolist() == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_splits_are_contiguous_and_complete(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(TEXT)
    loaded = load(data_dir=str(path), sequence_length=10)
    joined = np.concatenate([loaded.splits[s]["inputs"] for s in ("train", "validation", "test")])
    tokens = tokenise(TEXT.encode(), "characters", "x")
    assert np.array_equal(joined.ravel(), tokens[: joined.size])
    assert loaded.size("validation") == loaded.size("test") == round(0.05 * len(joined))
    assert loaded.source == str(path) and loaded.classes == 97


def test_a_folder_is_read_in_the_order_of_names(tmp_path):
    (tmp_path / "b.txt").write_text("b" * 500)
    (tmp_path / "a.txt").write_text("a" * 500)
    (tmp_path / "c.md").write_text("c" * 500)
    inputs = load(data_dir=str(tmp_path), tokens="bytes", sequence_length=5).splits
    assert inputs["train"]["inputs"][0, 0] == ord("a") and inputs["test"]["inputs"][0, 0] == ord(
        "b"
    )
    assert all((split["inputs"] != ord("c")).all() for split in inputs.values())


@pytest.mark.needs("bible")
def test_the_bible_is_the_recorded_one():
    assert datasets.load("text").checksum == KJV_CHECKSUM


def test_faults_are_named(tmp_path, monkeypatch):
    path = tmp_path / "latin.txt"
    path.write_bytes(b"caf\xe9" * 500)
    assert f"{path}: not UTF-8 at byte 3" in refused(data_dir=str(path))
    assert load(data_dir=str(path), tokens="bytes").size("train") > 0
    path.write_text("short")
    assert "5 bytes of text, expected at least 1280" in refused(data_dir=str(path))
    assert "cannot be read" in refused(data_dir=str(tmp_path / "none.txt"))
    (tmp_path / "empty").mkdir()
    assert "no .txt file" in refused(data_dir=str(tmp_path / "empty"))
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for way in ("bible-kjv", "--data-dir"):
        assert way in refused()


def test_bad_options_are_named():
    with pytest.raises(ValueError, match="did you mean 'characters'"):
        load(tokens="character")
    with pytest.raises(ValueError, match="sequence_length must be a positive whole number, got 0"):
        load(sequence_length=0)
