"""Fashion-MNIST from every place it may come from: the same bytes, or one clear line.

Needs the real files: Debian's package dataset-fashion-mnist, or `make data`.
"""

import dataclasses
import hashlib
import os

import numpy as np
import pytest

from workloads import datasets
from workloads.datasets import cache, tfds_images
from workloads.datasets.base import DataError
from workloads.datasets.fashion_mnist import FASHION_MNIST
from workloads.datasets.idx import encode_idx, read_idx, with_gzip_header
from workloads.datasets.idx_images import IdxImages, read_files
from workloads.datasets.idx_sources import load_idx_images

CHECKSUM = "6acfef2966def6f50ad81bd79fbba2cbef439e71c80f76a2e92e25fe81856436"
PUBLISHED_TIMES = {"train": 1504176606, "t10k": 1504176627}


@pytest.fixture
def files(fashion_mnist):
    return fashion_mnist


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    """No cache, no TFDS folder, no network: only what a test puts there."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setattr(tfds_images, "_reachable", lambda url: False)


def tiny(folder, **changes):
    """A dataset of MNIST's layout with 12 + 4 images of 2x3 pixels, written to ``folder``."""
    images = np.arange(16 * 6, dtype=np.uint8).reshape(16, 2, 3)
    labels = np.arange(16, dtype=np.uint8) % 10
    spec = IdxImages("tiny", {}, ways="write it", validation_examples=2)
    arrays = {
        "train_images": images[:12],
        "train_labels": labels[:12],
        "test_images": images[12:],
        "test_labels": labels[12:],
        **changes,
    }
    folder.mkdir(exist_ok=True)
    for role, name in spec.roles.items():
        (folder / name).write_bytes(encode_idx(arrays[role]))
    return spec


def test_splits_sizes_and_checksum(files):
    loaded = datasets.load("fashion_mnist", data_dir=str(files["train_images"].parent))
    sizes = {split: loaded.size(split) for split in loaded.splits}
    assert sizes == datasets.DATASETS["fashion_mnist"].sizes
    assert loaded.splits["train"]["inputs"].shape == (55_000, 28, 28, 1)
    assert loaded.splits["train"]["inputs"].dtype == np.uint8
    assert loaded.checksum == CHECKSUM


def test_the_files_are_the_published_ones(files):
    """Debian strips two gzip header fields; restored, the sums are those TFDS registers."""
    import tensorflow_datasets as tfds

    registered = tfds.builder_cls("fashion_mnist").url_infos.values()
    published = {info.filename: info.checksum for info in registered}
    for path in files.values():
        time = PUBLISHED_TIMES[path.name.split("-")[0]]
        whole = with_gzip_header(path.read_bytes(), path.name.removesuffix(".gz"), time)
        assert hashlib.sha256(whole).hexdigest() == published[path.name]


def test_tfds_prepared_from_the_files_without_tensorflow_gives_the_same_arrays(files, tmp_path):
    """What TFDS then reads, put back in order, equals the IDX files (all of them: `make soak`)."""
    import sys

    spec = dataclasses.replace(FASHION_MNIST, sha256={})  # of the first images, not of all
    first = {}
    for role, path in files.items():
        first[role] = tmp_path / path.name.removesuffix(".gz")
        first[role].write_bytes(encode_idx(read_idx(path)[:2000]))
    tfds_images.prepare(spec, first, tmp_path / "tfds")
    assert "tensorflow" not in sys.modules
    assert tfds_images.is_prepared("fashion_mnist", tmp_path / "tfds")
    prepared = tfds_images.read(spec, tmp_path / "tfds")
    for role, array in read_files(spec, first).items():
        assert len(array) == 2000 and np.array_equal(prepared[role], array), role


def test_the_decoded_cache_serves_the_second_load(files, tmp_path):
    place = cache.cache_folder() / "fashion_mnist"
    place.mkdir(parents=True)
    for path in files.values():
        os.symlink(path, place / path.name)
    first = datasets.load("fashion_mnist")
    assert cache.retrieve(place / "decoded") is not None
    for path in files.values():
        (place / path.name).unlink()
    assert datasets.load("fashion_mnist").checksum == first.checksum == CHECKSUM


def test_splits_of_a_tiny_dataset_keep_the_order_of_the_files(tmp_path):
    loaded = load_idx_images(tiny(tmp_path / "d"), str(tmp_path / "d"))
    assert loaded.splits["train"]["targets"].tolist() == list(range(10))
    assert loaded.splits["validation"]["targets"].tolist() == [0, 1]
    assert loaded.splits["test"]["inputs"].shape == (4, 2, 3, 1)


def message(call):
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_absent_data_names_the_ways(monkeypatch):
    spec = IdxImages("fashion_mnist", {}, ways=FASHION_MNIST.ways)
    text = message(lambda: load_idx_images(spec))
    for way in ("dataset-fashion-mnist", "make data", "--data-dir", "tensorflow-datasets"):
        assert way in text


def test_a_given_folder_without_the_files_is_an_error_even_where_others_have_them(tmp_path):
    tiny(tmp_path / "d")
    (tmp_path / "d" / "t10k-labels-idx1-ubyte").unlink()
    spec = IdxImages("tiny", {}, validation_examples=2)
    text = message(lambda: load_idx_images(spec, str(tmp_path / "d")))
    assert "t10k-labels-idx1-ubyte" in text and str(tmp_path / "d") in text
    absent = message(lambda: load_idx_images(spec, str(tmp_path / "nowhere")))
    assert "no such folder" in absent


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"train_labels": np.zeros(11, np.uint8)}, "expected one label for each"),
        ({"test_labels": np.full(4, 10, np.uint8)}, "label 10, expected 0..9"),
        ({"test_images": np.zeros((4, 6), np.uint8)}, "expected one label for each"),
        ({"test_images": np.zeros((4, 3, 3), np.uint8)}, "images of 3x3 pixels, expected 2x3"),
    ],
    ids=["labels missing", "label out of range", "no images", "size of the images"],
)
def test_files_that_do_not_fit_together_are_refused(tmp_path, changes, expected):
    spec = tiny(tmp_path / "d", **changes)
    assert expected in message(lambda: load_idx_images(spec, str(tmp_path / "d")))


def test_another_content_is_refused(tmp_path):
    tiny(tmp_path / "d")
    text = message(lambda: datasets.load("fashion_mnist", data_dir=str(tmp_path / "d")))
    assert "train-images-idx3-ubyte" in text and "expected c59f468a" in text
