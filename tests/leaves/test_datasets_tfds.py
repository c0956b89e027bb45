"""Images that TFDS prepared: a small, really prepared cifar10, and what may be wrong with it."""

import numpy as np
import pytest
from support import tfds_factory

from workloads import datasets
from workloads.datasets.base import DataError
from workloads.datasets.tfds_arrays import load_labelled_images


def prepare(folder, images, labels, splits=("train", "test")):
    """A small cifar10."""
    from PIL import Image

    examples = [
        {"id": str(place), "image": Image.fromarray(image), "label": int(label)}
        for place, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    return tfds_factory.prepare("cifar10", folder, dict.fromkeys(splits, examples))


@pytest.fixture(autouse=True)
def empty_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))


def small_data(count=12):
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (count, 32, 32, 3), np.uint8)
    return images, np.arange(count) % 10


def test_pixels_and_labels_survive_the_round_and_the_cache_serves_the_second(tmp_path):
    images, labels = small_data()
    prepare(tmp_path / "tfds", images, labels)
    loaded = load_labelled_images("cifar10", 10, 4)
    assert {split: loaded.size(split) for split in loaded.splits} == {
        "train": 8, "validation": 4, "test": 12
    }  # fmt: skip
    pairs = {
        (image.tobytes(), int(label))
        for split in ("train", "validation")
        for image, label in zip(*loaded.splits[split].values(), strict=True)
    }
    expected = {(image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True)}
    assert pairs == expected
    (tmp_path / "tfds").rename(tmp_path / "moved")
    assert load_labelled_images("cifar10", 10, 4).checksum == loaded.checksum
    given = load_labelled_images("cifar10", 10, 4, str(tmp_path / "moved"))
    assert given.checksum == loaded.checksum


def refused(call):
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_absent_data_says_what_to_do(tmp_path):
    text = refused(lambda: datasets.load("cifar100"))
    for way in ("tfds build cifar100 --file_format=array_record", "--data-dir", "TFDS_DATA_DIR"):
        assert way in text
    assert str(tmp_path / "x") in refused(
        lambda: datasets.load("cifar10", data_dir=str(tmp_path / "x"))
    )


def test_a_missing_split_and_labels_out_of_range_are_named(tmp_path):
    images, labels = small_data()
    prepare(tmp_path / "one", images, labels, splits=("train",))
    folder = str(tmp_path / "one")
    assert "has no split test" in refused(lambda: load_labelled_images("cifar10", 10, 4, folder))
    prepare(tmp_path / "two", images, labels)
    folder = str(tmp_path / "two")
    assert "train_labels in 0..9, expected 0..4" in refused(
        lambda: load_labelled_images("cifar10", 5, 4, folder)
    )


def test_images_of_another_size_and_too_few_of_them_are_named(tmp_path):
    images, labels = small_data()
    folder = str(prepare(tmp_path / "tfds", images, labels))
    said = refused(lambda: load_labelled_images("cifar10", 10, 4, folder, shape=(28, 28, 3)))
    assert "an image of 32x32x3, expected 28x28x3" in said
    assert f"{folder}/cifar10 (train) record 0" in said
    assert "12 training examples, expected more than the 12" in refused(
        lambda: load_labelled_images("cifar10", 10, 12, folder)
    )


def test_damaged_records_are_named(tmp_path):
    images, labels = small_data()
    folder = prepare(tmp_path / "tfds", images, labels)
    (records,) = folder.glob("cifar10/*/*train.array_record*")
    content = bytearray(records.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    records.write_bytes(content)
    said = refused(lambda: load_labelled_images("cifar10", 10, 4, str(folder)))
    assert f"{folder}/cifar10 (train)" in said and "cannot be" in said
