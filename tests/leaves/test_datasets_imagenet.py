"""ImageNet through TFDS: a small one, really prepared; what is said where it is absent."""

import dataclasses
import io

import numpy as np
import pytest
from support import tfds_factory
from support.engine_factory import train

import workloads
from experiments.spec.trial import Precision, Trial, TrialConfig
from experiments.training.feed import ResidentData
from experiments.training.program import Program
from workloads import datasets
from workloads.datasets.base import DataError, Stored
from workloads.datasets.describe import describe, lines
from workloads.datasets.imagenet import stored_images, with_splits
from workloads.datasets.tfds_records import open_records

SIZES = [(300, 400), (260, 256), (128, 64), (500, 333), (256, 256), (90, 700)]


def photograph(height, width, place):
    """A smooth picture as a JPEG file's bytes, its left half dark."""
    from PIL import Image

    shades = np.zeros((height, width, 3), np.uint8)
    shades[:, width // 2 :] = 200
    shades[..., 2] = 20 * place
    content = io.BytesIO()
    Image.fromarray(shades).save(content, "JPEG", quality=95)
    content.seek(0)
    return {"file_name": f"{place}.JPEG", "image": content, "label": place % 1000}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Six training and three validation images of TFDS's imagenet2012."""
    examples = [photograph(*size, place) for place, size in enumerate(SIZES)]
    for example in examples:
        example["image"] = example["image"].getvalue()
    names = {"train": examples, "validation": examples[:3]}
    return tfds_factory.prepare("imagenet2012", tmp_path_factory.mktemp("tfds"), names)


def refused(call):
    with pytest.raises(DataError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_photographs_become_squares_and_splits_share_nothing(folder):
    loaded = with_splits(str(folder), 2)
    assert {split: loaded.size(split) for split in loaded.splits} == {
        "train": 4, "validation": 3, "test": 2
    }  # fmt: skip
    seen = []
    for split in loaded.splits.values():
        assert isinstance(split, Stored)
        arrays = split.read(np.arange(split.size))
        assert arrays["inputs"].shape == (split.size, 256, 256, 3)
        assert arrays["inputs"].dtype == np.uint8 and arrays["targets"].dtype == np.int32
        for image, label in zip(*arrays.values(), strict=True):
            # JPEG is lossy; the halves and the blue that names the picture survive scaling.
            assert np.abs(image[:, :120, 0].astype(int)).max() < 20
            assert np.abs(image[:, 136:, 0].astype(int) - 200).max() < 20
            assert np.abs(image[:, :120, 2].astype(int) - 20 * label).max() < 20
    for name in ("train", "test"):
        seen += loaded.splits[name].read(np.arange(loaded.size(name)))["targets"].tolist()
    assert sorted(seen) == list(range(6))
    few = loaded.splits["train"].read(np.array([3, 1]))["targets"]
    assert few.tolist() == [seen[3], seen[1]]


def test_the_checksum_belongs_to_content_and_splits(folder):
    checksum = with_splits(str(folder), 2).checksum
    assert with_splits(str(folder), 2).checksum == checksum
    assert with_splits(str(folder), 1).checksum != checksum


def test_what_data_says_of_it(folder, monkeypatch):
    monkeypatch.setattr("workloads.datasets.imagenet.TEST_EXAMPLES", 2)
    monkeypatch.setattr("workloads.datasets.describe.LOOKED_AT", 2)
    said = "\n".join(lines(describe("imagenet", str(folder), validation_examples=3)))
    assert "4 examples of 256x256x3 uint8" in said and "labels of the first 2" in said
    assert "mean training image" in said and "TFDS imagenet2012" in said


def test_absent_says_what_must_be_there_beforehand(tmp_path):
    said = refused(lambda: datasets.load("imagenet", str(tmp_path)))
    for part in (
        str(tmp_path), "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "downloads/manual",
        "tfds build imagenet2012 --file_format=array_record", "TFDS_DATA_DIR",
    ):  # fmt: skip
        assert part in said


def test_faults_name_the_place_and_the_record(folder):
    records = open_records("imagenet2012", str(folder), ("train",), "", ("image",))["train"]
    place = f"{folder}/imagenet2012 (train)"
    few = stored_images(records, classes=3)
    assert f"{place} record" in (said := refused(lambda: few.read(np.arange(6))))
    assert "expected 0..2" in said

    class Cut:
        def __len__(self):
            return 1

        def __getitems__(self, numbers):
            return [{"image": b"\xff\xd8 cut", "label": 0} for _ in numbers]

    cut = stored_images(type(records)("here (train)", Cut(), ""))
    said = refused(lambda: cut.read(np.arange(1)))
    assert said.startswith("here (train) record 0: the image cannot be decoded")
    assert "has no split test" in refused(
        lambda: open_records("imagenet2012", str(folder), ("test",), "")
    )
    assert "6 images, expected more than the 6" in refused(lambda: with_splits(str(folder), 6))


def test_the_engine_trains_on_it_streamed(folder):
    """ImageNet's own preprocessing and metrics, a small net: three steps from the stored JPEGs."""
    workload = dataclasses.replace(
        workloads.get("imagenet_resnet50"),
        model="workloads.models.fully_connected:fully_connected",
        model_options={"hidden_sizes": [2], "classes": 6},
    )
    config = TrialConfig(workload, "sgd", "constant", Precision(), "off")
    loaded = with_splits(str(folder), 2)
    data = ResidentData.put(loaded.splits, 2, stream=True)
    assert data.stored is loaded.splits["train"] and data.examples == 4
    values = {"learning_rate": 1e-4, "label_smoothing": 0.1}
    trial = Trial(2, 0, 0, 3, values, "imagenet")
    found = train([trial], program=Program(config, data, 1e4))[0].evaluations
    assert found["step"].tolist() == [1, 2, 3]
    assert all(np.isfinite(values).all() for values in found.values())
    assert set(found["validation/classification_error"]) <= {0, 1 / 3, 2 / 3, 1}
