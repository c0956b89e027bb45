"""Images that TFDS prepared: a small, really prepared cifar10, and what may be wrong with it."""

import numpy as np
import pytest

from workloads import datasets
from workloads.datasets.base import DataError
from workloads.datasets.tfds_arrays import load_labelled_images


def prepare(folder, images, labels, splits=("train", "test")):
    """TFDS's own cifar10 builder, fed with other images; no TensorFlow."""
    import tensorflow_datasets as tfds
    from PIL import Image
    from tensorflow_datasets.core import registered

    stock = tfds.builder_cls("cifar10")
    with registered.skip_registration():

        class Small(stock):
            name = "cifar10"

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples() for split in splits}

            def _generate_examples(self):
                for place, (image, label) in enumerate(zip(images, labels, strict=True)):
                    example = {"id": str(place), "image": Image.fromarray(image)}
                    yield place, {**example, "label": int(label)}

    settings = tfds.download.DownloadConfig(try_download_gcs=False)
    builder = Small(data_dir=folder, file_format="array_record")
    builder.download_and_prepare(download_config=settings)


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
